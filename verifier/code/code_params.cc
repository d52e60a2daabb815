#include "verifier/code/code_params.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/status.h"
#include "verifier/rules/params.h"

namespace tramontane {
namespace {

constexpr double kMinTimeS = 0.01, kMostTotalS = 86400;
constexpr double kMinMemoryMib = 32;

double Mib(int64_t bytes) { return static_cast<double>(bytes >> 20); }
double Kib(int64_t bytes) { return static_cast<double>(bytes >> 10); }

const std::vector<std::string> kLanguages = {"", "python", "cpp"};
const std::vector<std::string> kScorings = {"all", "fraction", "strict", "soft"};
const std::vector<std::string> kComparisons = {"lines", "tokens", "exact"};

// `bound`: the field that sets `high`, if any does.
absl::Status Number(const Json& params, const std::string& key, double low, double high,
                    double& value, const std::string& bound = "") {
  ASSIGN_OR_RETURN(value, NumberParam(params, key, value));
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError("params." + key + ": must be from " + Json(low).dump() +
                                    " to " + Json(high).dump() +
                                    (bound.empty() ? "" : " (" + bound + ")"));
}

// Place of the chosen name among `names`, in the order of the enumeration.
absl::StatusOr<size_t> Choice(const Json& params, const std::string& key,
                              const std::vector<std::string>& names) {
  ASSIGN_OR_RETURN(const std::string name, ChoiceParam(params, key, names));
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

}  // namespace

absl::StatusOr<CodeParams> ParseCodeParams(const Json& params, const RunLimits& most) {
  CodeParams out;
  ASSIGN_OR_RETURN(out.language, ChoiceParam(params, "language", kLanguages));
  ASSIGN_OR_RETURN(const size_t scoring, Choice(params, "scoring", kScorings));
  ASSIGN_OR_RETURN(const size_t comparison, Choice(params, "compare", kComparisons));
  out.scoring = static_cast<Scoring>(scoring);
  out.comparison = static_cast<Comparison>(comparison);
  double memory_mib = Mib(out.limits.memory_bytes), output_kib = Kib(out.limits.output_bytes);
  RETURN_IF_ERROR(Number(params, "tolerance", 0, 1, out.tolerance));
  RETURN_IF_ERROR(Number(params, "time_limit_s", kMinTimeS, most.time_s, out.limits.time_s,
                         "sandbox.max_time_limit_s"));
  RETURN_IF_ERROR(
      Number(params, "total_time_limit_s", kMinTimeS, kMostTotalS, out.total_time_limit_s));
  RETURN_IF_ERROR(Number(params, "memory_limit_mib", kMinMemoryMib, Mib(most.memory_bytes),
                         memory_mib, "sandbox.max_memory_mib"));
  RETURN_IF_ERROR(Number(params, "output_limit_kib", 1, Kib(most.output_bytes), output_kib,
                         "sandbox.max_output_kib"));
  out.limits.memory_bytes = static_cast<int64_t>(memory_mib) << 20;
  out.limits.output_bytes = static_cast<int64_t>(output_kib) << 10;
  return out;
}

Json CodeParamsSchema(const RunLimits& most) {
  const CodeParams defaults;
  return ParamsSchema(
      {{"language", OneOfSchema(kLanguages)},
       {"scoring", OneOfSchema(kScorings)},
       {"compare", OneOfSchema(kComparisons)},
       {"tolerance", NumberSchema(0, 1, defaults.tolerance)},
       {"time_limit_s", NumberSchema(kMinTimeS, most.time_s, defaults.limits.time_s)},
       {"total_time_limit_s", NumberSchema(kMinTimeS, kMostTotalS, defaults.total_time_limit_s)},
       {"memory_limit_mib", NumberSchema(kMinMemoryMib, Mib(most.memory_bytes),
                                         Mib(defaults.limits.memory_bytes))},
       {"output_limit_kib",
        NumberSchema(1, Kib(most.output_bytes), Kib(defaults.limits.output_bytes))}});
}

}  // namespace tramontane
