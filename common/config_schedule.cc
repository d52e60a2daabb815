// Numbers that change with the step: what a schedule may touch, and the configuration at a step.
#include <algorithm>
#include <cmath>
#include <set>

#include "common/config.h"
#include "common/status.h"

namespace tramontane {
namespace {

// Read anew in every step; every other field is fixed when a process starts.
const char* const kScheduled[] = {"rollout.max_new_tokens",  "rollout.temperature",
                                  "trainer.groups_per_step", "trainer.learning_rate",
                                  "trainer.weight_decay",    "trainer.max_grad_norm",
                                  "critic.learning_rate"};

constexpr char kReward[] = "reward.", kTerms[] = "reward.terms.", kWeight[] = ".weight";

// The part of the reward whose weight the path is, as verifiers name it; empty: of none.
std::string RewardPart(const RewardSection& reward, const std::string& path) {
  if (path.starts_with(kTerms) && path.ends_with(kWeight)) {
    const size_t begin = sizeof(kTerms) - 1, end = path.size() - (sizeof(kWeight) - 1);
    const std::string term = begin < end ? path.substr(begin, end - begin) : "";
    return reward.terms.contains(term) ? term : "";
  }
  for (const char* part : {"format", "correct", "language", "length_penalty"}) {
    if (reward.terms.empty() && path == std::string(kReward) + part) return part;
  }
  return "";
}

bool MayBeScheduled(const std::string& path) {
  if (path.find_first_of("~/") != std::string::npos) return false;  // mean something to Pointer
  return path.starts_with("algorithm.") || path.starts_with("prompts.") ||
         std::find(std::begin(kScheduled), std::end(kScheduled), path) != std::end(kScheduled);
}

Json::json_pointer Pointer(std::string path) {
  std::replace(path.begin(), path.end(), '.', '/');
  return Json::json_pointer("/" + path);
}

std::optional<double> ValueAt(const ScheduleSection& schedule, int64_t step) {
  const auto after = std::upper_bound(schedule.steps.begin(), schedule.steps.end(), step);
  const size_t next = static_cast<size_t>(after - schedule.steps.begin());
  if (next == 0) return std::nullopt;
  const double from = schedule.values[next - 1];
  if (schedule.interpolate == "hold" || next == schedule.steps.size()) return from;
  const double share = static_cast<double>(step - schedule.steps[next - 1]) /
                       static_cast<double>(schedule.steps[next] - schedule.steps[next - 1]);
  return from + share * (schedule.values[next] - from);
}

absl::StatusOr<RunConfig> At(const RunConfig& config, int64_t step) {
  Json json = ToJson(config);
  json["schedules"] = Json::object();  // checked already, and endless otherwise
  for (const auto& [path, schedule] : config.schedules) {
    const std::optional<double> value = ValueAt(schedule, step);
    if (!value) continue;
    Json& field = json[Pointer(path)];
    if (field.is_number_integer() && !path.starts_with(kReward)) {
      field = static_cast<int64_t>(std::llround(*value));
    } else {
      field = *value;
    }
  }
  ASSIGN_OR_RETURN(RunConfig result, ConfigFromJson(json));
  result.schedules = config.schedules;
  return result;
}

// What verifiers do not look at in the first place has no weight to be changed.
absl::Status CheckRewardPart(const RewardSection& reward, const std::string& path) {
  if (RewardPart(reward, path).empty()) {
    return absl::InvalidArgumentError("schedules." + path +
                                      ": is no part of the reward: reward.terms.<name>.weight of a "
                                      "term that there is or, without "
                                      "terms, reward.format, correct, language, length_penalty "
                                      "(rule scheduled_reward_has_a_part)");
  }
  if (path == "reward.language" && reward.language <= 0) {
    return absl::InvalidArgumentError(
        "schedules.reward.language: reward.language itself must be above 0, or verifiers do not "
        "look "
        "at languages (rule scheduled_reward_has_a_part)");
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const RunConfig& config, const std::string& path,
                        const ScheduleSection& schedule) {
  const std::string where = "schedules." + path;
  const bool reward = path.starts_with(kReward);
  if (reward) RETURN_IF_ERROR(CheckRewardPart(config.reward, path));
  const Json json = ToJson(config);
  const auto is_number = [&] {
    const Json::json_pointer pointer = Pointer(path);
    return json.contains(pointer) && (json[pointer].is_number() || json[pointer].is_null());
  };
  if (!reward && (!MayBeScheduled(path) || !is_number())) {
    std::string list;
    for (const char* name : kScheduled) list += std::string(name) + ", ";
    return absl::InvalidArgumentError(
        where + ": only numbers may have a schedule: " + list +
        "those of `algorithm` and `prompts`, and the reward's weights");
  }
  if (schedule.steps.empty() || schedule.steps.size() != schedule.values.size()) {
    return absl::InvalidArgumentError(where + ": needs as many values as steps, at least one");
  }
  if (!std::ranges::all_of(schedule.values, [](double value) { return std::isfinite(value); })) {
    return absl::InvalidArgumentError(where + ".values: must be finite");
  }
  if (schedule.steps.front() < 1 ||
      std::adjacent_find(schedule.steps.begin(), schedule.steps.end(), std::greater_equal<>()) !=
          schedule.steps.end()) {
    return absl::InvalidArgumentError(where + ".steps: must rise, from 1 on");
  }
  if (schedule.interpolate != "hold" && schedule.interpolate != "linear") {
    return absl::InvalidArgumentError(where + ".interpolate: '" + schedule.interpolate +
                                      "' is not one of hold, linear");
  }
  if (path == "trainer.groups_per_step" && schedule.interpolate != "hold") {
    return absl::InvalidArgumentError(where +
                                      ".interpolate: a batch grows or shrinks in steps (hold)");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSchedules(const RunConfig& config) {
  std::set<int64_t> steps;
  for (const auto& [path, schedule] : config.schedules) {
    RETURN_IF_ERROR(CheckShape(config, path, schedule));
    steps.insert(schedule.steps.begin(), schedule.steps.end());
  }
  for (int64_t step : steps) {
    RETURN_IF_ERROR(
        Annotate(At(config, step).status(), "schedules, at step " + std::to_string(step)));
  }
  return absl::OkStatus();
}

FilterConfig FilterAtStep(const RunConfig& config, int64_t step) {
  const auto first = config.schedules.lower_bound("algorithm.filter.");
  const bool scheduled =
      first != config.schedules.end() && first->first.starts_with("algorithm.filter.");
  FilterConfig filter =
      scheduled ? At(config, step).value().algorithm.filter : config.algorithm.filter;
  if (step <= config.critic.pretrain_steps || config.run.kind == "reject_sample") {
    filter.zero_variance = "keep";
  }
  if (step <= config.critic.pretrain_steps) {
    filter.accept_low.reset();
    filter.accept_high.reset();
  }
  return filter;
}

std::map<std::string, double> RewardWeightsAtStep(const RunConfig& config, int64_t step) {
  std::map<std::string, double> weights;
  for (const auto& [path, schedule] : config.schedules) {
    const std::string part = RewardPart(config.reward, path);
    if (part.empty()) continue;
    // Before its first step a part is worth what the verifier says.
    if (const std::optional<double> value = ValueAt(schedule, step)) weights[part] = *value;
  }
  return weights;
}

RunConfig ConfigAtStep(const RunConfig& config, int64_t step) {
  if (config.schedules.empty()) return config;
  // Ranges and rules on numbers are convex: what holds at every point of every schedule holds
  // between.
  return At(config, step).value();
}

}  // namespace tramontane
