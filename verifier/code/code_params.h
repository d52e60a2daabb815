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
  RunLimits limits;  // of one test
  // Of processor time, over all tests; twice that and a second of time spent otherwise. What is
  // left then fails.
  double total_time_limit_s = 60;
};

// InvalidArgument names the key that is wrong; keys of others are left alone.
absl::StatusOr<CodeParams> ParseCodeParams(const Json& params);
Json CodeParamsSchema();

}  // namespace tramontane
