// What a program is tested with: the gold answer of a row, as JSON. Parsing alone; pure.
//
//   {"tests": [{"input": "3\n", "output": "6\n"}]}                      standard input and output
//   {"function": "twoSum", "tests": [{"args": [[2, 7], 9], "expected": [0, 1]}]}
//   {"inputs": ["3\n"], "outputs": ["6\n"], "fn_name": …}               APPS, TACO, verl
//   [{"input": "3\n", "output": "6\n", "testtype": "stdin"}]            LiveCodeBench
//
// A test may carry a "level": 0 for the easiest, as MiMo's groups by solver pass rate
// (arXiv 2505.07608 §3); "level_scores" gives what each level is worth (equal shares without it).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

struct CodeTest {
  std::string input;           // standard input, or the arguments as a JSON array
  std::string output;          // expected standard output, or the expected result as JSON
  bool maybe_wrapped = false;  // APPS: an array of one may stand for its element
  int32_t level = 0;
};

struct CodeTests {
  std::string function;  // empty: standard input and output
  std::vector<CodeTest> tests;
  std::vector<double> level_scores;  // by level; positive, sums to 1
};

inline constexpr size_t kMaxCodeTests = 1000;

// InvalidArgument names the field that is missing or wrong.
absl::StatusOr<CodeTests> ParseCodeTests(const std::string& answer);
absl::StatusOr<CodeTests> ReadCodeTests(const Json& document);  // the same, parsed

}  // namespace tramontane
