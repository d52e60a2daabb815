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

// What makes sense in some sandbox.
inline constexpr RunLimits kAnyLimits = {
    .time_s = 3600, .memory_bytes = int64_t{1} << 40, .output_bytes = int64_t{1} << 28};

// `most`: what the sandbox gives, where it is known. InvalidArgument names the key that is wrong;
// keys of others are left alone.
absl::StatusOr<CodeParams> ParseCodeParams(const Json& params, const RunLimits& most = kAnyLimits);
Json CodeParamsSchema(const RunLimits& most = kAnyLimits);

}  // namespace tramontane
