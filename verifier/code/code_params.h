// How a row wants its programs tested: the `params` of the `code` verifier. docs/sandbox.md has the
// table.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "verifier/code/outcome.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

struct CodeParams {
  std::string language;  // "python" | "cpp"; empty: what the fence says, or python
  Scoring scoring = Scoring::kAll;
  Comparison comparison = Comparison::kLines;
  double tolerance = 0;
  RunLimits limits;                // of one test
  double total_time_limit_s = 60;  // of processor time, over all tests; what is left then fails
};

// InvalidArgument names the key that is wrong; keys of others are left alone.
absl::StatusOr<CodeParams> ParseCodeParams(const Json& params);

}  // namespace tramontane
