#include "trainer/loop/exit_rules.h"

#include <numeric>

namespace tramontane {
namespace {

std::optional<double> NumberAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

Json OrNull(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

}  // namespace

ExitRules::ExitRules(const RunSection& run, const Json& saved) : run_(run) {
  if (!saved.is_object()) return;
  for (const Json& reward : saved.value("rewards", Json::array())) {
    if (reward.is_number()) StepDone(reward.get<double>());
  }
  accuracy_ = NumberAt(saved, "accuracy");
  best_accuracy_ = NumberAt(saved, "best_accuracy");
  stale_evaluations_ = static_cast<int64_t>(NumberAt(saved, "stale_evaluations").value_or(0));
}

void ExitRules::StepDone(double mean_reward) {
  rewards_.push_back(mean_reward);
  if (rewards_.size() > static_cast<size_t>(run_.stop_reward_window_steps)) rewards_.pop_front();
}

void ExitRules::Evaluated(double accuracy) {
  accuracy_ = accuracy;
  const bool better = !best_accuracy_ || accuracy > *best_accuracy_;
  stale_evaluations_ = better ? 0 : stale_evaluations_ + 1;
  if (better) best_accuracy_ = accuracy;
}

std::string ExitRules::Reason(int64_t step, double elapsed_s) const {
  if (step >= run_.max_steps) return "max_steps";
  const auto window = static_cast<size_t>(run_.stop_reward_window_steps);
  if (run_.stop_reward > 0 && rewards_.size() == window &&
      std::accumulate(rewards_.begin(), rewards_.end(), 0.0) / static_cast<double>(window) >=
          run_.stop_reward) {
    return "stop_reward";
  }
  if (run_.stop_accuracy > 0 && accuracy_ && *accuracy_ >= run_.stop_accuracy)
    return "stop_accuracy";
  if (run_.stop_stale_evaluations > 0 && stale_evaluations_ >= run_.stop_stale_evaluations)
    return "stop_stale_evaluations";
  if (run_.stop_seconds > 0 && elapsed_s >= run_.stop_seconds) return "stop_seconds";
  return "";
}

Json ExitRules::ToJson() const {
  return {{"rewards", rewards_},
          {"accuracy", OrNull(accuracy_)},
          {"best_accuracy", OrNull(best_accuracy_)},
          {"stale_evaluations", stale_evaluations_}};
}

}  // namespace tramontane
