#include "verifier/code/code_params.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/status.h"
#include "verifier/rules/params.h"

namespace tramontane {
namespace {

// What can make sense anywhere; a sandbox gives less (`sandbox.max_…`).
constexpr double kMinTimeS = 0.01, kMostTimeS = 3600, kMostTotalS = 86400;
constexpr double kMinMemoryMib = 32, kMostMemoryMib = 1 << 20, kMostOutputKib = 1 << 18;

const std::vector<std::string> kLanguages = {"", "python", "cpp"};
const std::vector<std::string> kScorings = {"all", "fraction", "strict", "soft"};
const std::vector<std::string> kComparisons = {"lines", "tokens", "exact"};

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
  ASSIGN_OR_RETURN(out.language, ChoiceParam(params, "language", kLanguages));
  ASSIGN_OR_RETURN(const size_t scoring, Choice(params, "scoring", kScorings));
  ASSIGN_OR_RETURN(const size_t comparison, Choice(params, "compare", kComparisons));
  out.scoring = static_cast<Scoring>(scoring);
  out.comparison = static_cast<Comparison>(comparison);
  double memory_mib = static_cast<double>(out.limits.memory_bytes >> 20);
  double output_kib = static_cast<double>(out.limits.output_bytes >> 10);
  RETURN_IF_ERROR(Number(params, "tolerance", 0, 1, out.tolerance));
  RETURN_IF_ERROR(Number(params, "time_limit_s", kMinTimeS, kMostTimeS, out.limits.time_s));
  RETURN_IF_ERROR(
      Number(params, "total_time_limit_s", kMinTimeS, kMostTotalS, out.total_time_limit_s));
  RETURN_IF_ERROR(Number(params, "memory_limit_mib", kMinMemoryMib, kMostMemoryMib, memory_mib));
  RETURN_IF_ERROR(Number(params, "output_limit_kib", 1, kMostOutputKib, output_kib));
  out.limits.memory_bytes = static_cast<int64_t>(memory_mib) << 20;
  out.limits.output_bytes = static_cast<int64_t>(output_kib) << 10;
  return out;
}

Json CodeParamsSchema() {
  const CodeParams defaults;
  const double memory_mib = static_cast<double>(defaults.limits.memory_bytes >> 20);
  const double output_kib = static_cast<double>(defaults.limits.output_bytes >> 10);
  return ParamsSchema(
      {{"language", OneOfSchema(kLanguages)},
       {"scoring", OneOfSchema(kScorings)},
       {"compare", OneOfSchema(kComparisons)},
       {"tolerance", NumberSchema(0, 1, defaults.tolerance)},
       {"time_limit_s", NumberSchema(kMinTimeS, kMostTimeS, defaults.limits.time_s)},
       {"total_time_limit_s", NumberSchema(kMinTimeS, kMostTotalS, defaults.total_time_limit_s)},
       {"memory_limit_mib", NumberSchema(kMinMemoryMib, kMostMemoryMib, memory_mib)},
       {"output_limit_kib", NumberSchema(1, kMostOutputKib, output_kib)}});
}

}  // namespace tramontane
