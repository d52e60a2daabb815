#include "trainer/learner/algorithm_support.h"

#include <string>

#include "common/status.h"

namespace tramontane {
namespace {

absl::Status Missing(const std::string& knob) {
  return absl::UnimplementedError("algorithm." + knob + " is not available yet");
}

absl::Status CheckCorrection(const AlgorithmConfig& a) {
  const CorrectionConfig& c = a.correction;
  if (c.kind == "none") return absl::OkStatus();
  // Against the behaviour policy the objective's ratio already is π/μ: a weight counts it twice.
  if (c.anchor == "behaviour" && a.objective.ratio != "none") {
    return absl::InvalidArgumentError(
        "algorithm.correction.kind: with anchor behaviour the ratio already divides by the behaviour policy; "
        "use anchor recomputed or objective.ratio none");
  }
  if (c.kind == "truncate" && !c.cap) {
    return absl::InvalidArgumentError("algorithm.correction.cap: is needed with truncate");
  }
  if (c.kind != "truncate" && !c.low && !c.high) {
    return absl::InvalidArgumentError("algorithm.correction.high: " + c.kind + " needs low or high");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupported(const AlgorithmConfig& a) {
  if (a.advantage.baseline == "value") return Missing("advantage.baseline: value");
  if (a.advantage.alpha) return Missing("advantage.alpha");
  if (a.objective.kind == "opmd") return Missing("objective.kind: opmd");
  if (a.kl.kind == "full") return Missing("kl.kind: full");
  if (a.entropy.kind == "adaptive") return Missing("entropy.kind: adaptive");
  if (a.auxiliary.value_coefficient != 0) return Missing("auxiliary.value_coefficient");
  if (a.auxiliary.value_clip) return Missing("auxiliary.value_clip");
  if (a.objective.kind == "cispo" && a.objective.ratio == "none") {
    return absl::InvalidArgumentError("algorithm.objective.ratio: cispo needs a token or sequence ratio");
  }
  if (a.objective.dual_clip && *a.objective.dual_clip <= 1) {
    return absl::InvalidArgumentError("algorithm.objective.dual_clip: must be above 1");
  }
  if (a.aggregation.constant && !(*a.aggregation.constant > 0)) {
    return absl::InvalidArgumentError("algorithm.aggregation.constant: must be positive");
  }
  return CheckCorrection(a);
}

absl::Status CheckSupportedInRun(const AlgorithmConfig& a) {
  RETURN_IF_ERROR(CheckSupported(a));
  if (a.kl.kind != "none" && a.kl.coefficient != 0) return Missing("kl.kind: " + a.kl.kind + " (in a run)");
  return absl::OkStatus();
}

}  // namespace tramontane
