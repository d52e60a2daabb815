#include "trainer/learner/learner_state.h"

#include <cmath>
#include <limits>

#include "common/files.h"
#include "common/rollout.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kStateFormat = 1;
const char* const kFile = "/learner.json";

}  // namespace

absl::Status SaveLearnerState(const std::string& dir, const LearnerState& state) {
  const double entropy = state.entropy.last_entropy;
  const Json json = {{"format_version", kStateFormat},
                     {"entropy_coefficient", state.entropy.coefficient},
                     {"last_entropy", std::isfinite(entropy) ? Json(entropy) : Json()},
                     {"reference_version", state.reference_version}};
  return WriteFileAtomic(dir + kFile, json.dump(1));
}

absl::StatusOr<LearnerState> LoadLearnerState(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(dir + kFile, size_t{1} << 20));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Json nothing;
  const auto field = [&](const char* name) -> const Json& {
    return json.is_object() && json.contains(name) ? json[name] : nothing;
  };
  if (field("format_version") != kStateFormat || !field("entropy_coefficient").is_number() ||
      !field("reference_version").is_number_integer()) {
    return absl::DataLossError(dir + kFile + ": not a learner's state of format 1");
  }
  LearnerState state;
  state.entropy.coefficient = field("entropy_coefficient");
  if (field("last_entropy").is_number()) state.entropy.last_entropy = field("last_entropy");
  state.reference_version = field("reference_version");
  return state;
}

}  // namespace tramontane
