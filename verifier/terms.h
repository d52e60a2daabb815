// The terms of a reward: gate, then Σ weight · term (`reward.terms`). Each is a small function of one
// completion, or of all completions of a group. Pure, thread-safe.
//
//   accuracy     right / wrong, a share where the rule knows one
//   format       1 when the think tags are in order (and the box, where the rule wants one)
//   language     1 when prompt, thoughts and answer are in one language, or the share of words in it
//   soft_overlong  0 … -1 over the last cache_tokens before max_tokens (DAPO, arXiv 2503.14476 eq. 13)
//   cosine       accuracy that fades with length (Phi-4-reasoning, arXiv 2504.21318 §4.1)
//   repetition   -1 … 0 by repeated n-grams (the same)
//   kimi_length  ±½ by length within the group (Kimi k1.5, arXiv 2501.12599 §2.3.3)       group
//   adactrl      difficulty tags and length (AdaCtrl, arXiv 2505.18822 §2.3)              group
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "verifier/format_gate.h"
#include "verifier/grader.h"
#include "verifier/rules/language.h"
#include "verifier/rules/rule.h"

namespace tramontane {

// One completion, judged but not yet scored.
struct Judged {
  const GradeRequest* request = nullptr;
  FormatCheck format;
  Judgement judgement;
};

struct RewardTerm {
  std::string name;
  double weight = 1;
  double low = 0, high = 1;  // of the term, before its weight
  bool group = false;
  std::function<double(const Judged&)> sample;                              // unless `group`
  std::function<std::vector<double>(const std::vector<Judged>&)> of_group;  // if `group`
};

// `settings`: {term (default: name), weight, scope: all | think | answer, and the term's own}.
// InvalidArgument names reward.terms.<name>.<field>; NotFound lists the terms there are.
absl::StatusOr<RewardTerm> MakeTerm(const std::string& name, const Json& settings,
                                    std::shared_ptr<const LanguageDetector> detector);

std::vector<std::string> TermNames();
// JSON Schema of the settings of a term, but for `term` and `weight`.
Json TermSchema(const std::string& name);

}  // namespace tramontane
