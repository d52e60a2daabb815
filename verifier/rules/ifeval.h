// Instructions that can be checked by program, by the names and with the arguments of IFEval (Zhou
// et al. 2023, arXiv 2311.07911; instruction_following_eval/instructions.py of google-research).
// The 25 instructions, `strict` and `loose`. Differences: sentences are split by punctuation and
// words by letters and digits, not by NLTK's trained models; languages are told by our detector.
#pragma once

#include <memory>

#include "verifier/rules/language.h"
#include "verifier/rules/rule.h"

namespace tramontane {

// params: instruction_id_list: [ids], kwargs: [{…}, one an id], mode: strict | loose,
// require: all | fraction (what `correct` and `share` are made of).
AnswerRule IfevalRule(std::shared_ptr<const LanguageDetector> detector);

}  // namespace tramontane
