#include "services/verifier/shadow_comparison.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace tramontane {
namespace {

constexpr double kSameScore = 1e-6;

Counter Outcome(MetricsRegistry& metrics, const std::string& verifier, const std::string& shadow,
                const char* outcome) {
  return metrics.MakeCounter("tramontane_verifier_shadow_compared_total",
                             {{"verifier", verifier}, {"shadow", shadow}, {"outcome", outcome}});
}

}  // namespace

ShadowComparison::ShadowComparison(const std::string& verifier, const std::string& shadow,
                                   MetricsRegistry& metrics)
    : shadow_(shadow),
      same_(Outcome(metrics, verifier, shadow, "same")),
      differs_(Outcome(metrics, verifier, shadow, "differs")),
      unscored_(Outcome(metrics, verifier, shadow, "unscored")) {}

void ShadowComparison::Compare(const Verdict& primary, const Verdict& shadow) {
  std::lock_guard lock(mutex_);
  if (!primary.score || !shadow.score) {
    ++skipped_;
    unscored_.Add();
    return;
  }
  const double difference = *shadow.score - *primary.score;
  const bool same = std::abs(difference) <= kSameScore && primary.correct == shadow.correct;
  (same ? same_ : differs_).Add();
  ++compared_;
  differing_ += !same;
  difference_sum_ += difference;
  if (std::abs(difference) > std::abs(largest_difference_)) largest_difference_ = difference;
  correct_differs_ += primary.correct != shadow.correct;
}

void ShadowComparison::Count(bool canary, const Verdict& verdict) {
  std::lock_guard lock(mutex_);
  Tally& tally = canary ? canary_ : current_;
  ++(verdict.score ? tally.scored : tally.unscored);
  tally.sum += verdict.score.value_or(0);
}

Json ShadowComparison::Tally::State() const {
  return {{"scored", scored},
          {"unscored", unscored},
          {"mean", scored > 0 ? Json(sum / static_cast<double>(scored)) : Json()}};
}

Json ShadowComparison::State() const {
  std::lock_guard lock(mutex_);
  return {
      {"canary", canary_.State()},
      {"current", current_.State()},
      {"verifier", shadow_},
      {"compared", compared_},
      {"differing", differing_},
      {"unscored", skipped_},
      {"correct_differs", correct_differs_},
      {"mean_difference", compared_ > 0 ? difference_sum_ / static_cast<double>(compared_) : 0.0},
      {"largest_difference", largest_difference_}};
}

}  // namespace tramontane
