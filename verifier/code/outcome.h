// Whether captured bytes are what was expected, and what a row of such answers is worth. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/rollout.h"
#include "verifier/code/code_tests.h"

namespace tramontane {

enum class Comparison {
  kLines,   // line by line, blanks at the end of lines and empty lines at the end aside
  kTokens,  // word by word, whatever blanks lie between
  kExact,   // byte for byte
};

// `tolerance` > 0: words (kTokens) or the words of a line (kLines) that are both numbers may differ
// by that much, absolutely or relative to the expected one.
bool SameOutput(std::string_view expected, std::string_view output, Comparison comparison,
                double tolerance);

// Equal as JSON values: 1 and 1.0 are, true and 1 are not. Numbers within `tolerance`.
bool SameResult(const Json& expected, const Json& result, double tolerance);

enum class Scoring {
  kAll,       // 1 when every test passed, or 0
  kFraction,  // the share of tests passed
  kStrict,    // a level counts when it and all easier ones passed completely (MiMo)
  kSoft,      // a level's score is shared equally by its tests (MiMo)
};

// In [0, 1]. `passed` has one entry a test.
double ScoreTests(const CodeTests& tests, const std::vector<bool>& passed, Scoring scoring);

}  // namespace tramontane
