#include "verifier/code/code_params.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/status.h"
#include "verifier/rules/params.h"

namespace tramontane {
namespace {

absl::Status Number(const Json& params, const std::string& key, double low, double high,
                    double& value) {
  ASSIGN_OR_RETURN(value, NumberParam(params, key, value));
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError("params." + key + ": must be from " + std::to_string(low) +
                                    " to " + std::to_string(high));
}

// Place of the chosen name among `names`, in the order of the enumeration.
absl::StatusOr<size_t> Choice(const Json& params, const std::string& key,
                              const std::vector<std::string>& names) {
  ASSIGN_OR_RETURN(const std::string name, ChoiceParam(params, key, names));
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

}  // namespace

absl::StatusOr<CodeParams> ParseCodeParams(const Json& params) {
  CodeParams out;
  ASSIGN_OR_RETURN(out.language, ChoiceParam(params, "language", {"", "python", "cpp"}));
  ASSIGN_OR_RETURN(const size_t scoring,
                   Choice(params, "scoring", {"all", "fraction", "strict", "soft"}));
  ASSIGN_OR_RETURN(const size_t comparison,
                   Choice(params, "compare", {"lines", "tokens", "exact"}));
  out.scoring = static_cast<Scoring>(scoring);
  out.comparison = static_cast<Comparison>(comparison);
  double memory_mib = static_cast<double>(out.limits.memory_bytes >> 20);
  double output_kib = static_cast<double>(out.limits.output_bytes >> 10);
  RETURN_IF_ERROR(Number(params, "tolerance", 0, 1, out.tolerance));
  RETURN_IF_ERROR(Number(params, "time_limit_s", 0.01, 3600, out.limits.time_s));
  RETURN_IF_ERROR(Number(params, "total_time_limit_s", 0.01, 86400, out.total_time_limit_s));
  RETURN_IF_ERROR(Number(params, "memory_limit_mib", 32, 1 << 20, memory_mib));
  RETURN_IF_ERROR(Number(params, "output_limit_kib", 1, 1 << 18, output_kib));
  out.limits.memory_bytes = static_cast<int64_t>(memory_mib) << 20;
  out.limits.output_bytes = static_cast<int64_t>(output_kib) << 10;
  return out;
}

}  // namespace tramontane
