#include "trainer/learner/schedule.h"

#include <algorithm>

namespace tramontane {
namespace {

double Warmup(int64_t warmup_steps, int64_t step) {
  if (warmup_steps <= 0) return 1;
  return std::min(1.0, static_cast<double>(step) / static_cast<double>(warmup_steps));
}

// 1 until `decay_steps` are left, then linear; 0 beyond the end.
double LinearTail(int64_t max_steps, double decay_steps, int64_t step) {
  if (decay_steps <= 0) return 1;
  return std::clamp(static_cast<double>(max_steps + 1 - step) / decay_steps, 0.0, 1.0);
}

}  // namespace

double RlLearningRate(const TrainerSection& trainer, int64_t max_steps, int64_t step) {
  double factor = Warmup(trainer.warmup_steps, step);
  if (trainer.schedule == "linear") {
    factor = std::min(
        factor,
        LinearTail(max_steps, static_cast<double>(max_steps - trainer.warmup_steps + 1), step));
  }
  return trainer.learning_rate * factor;
}

double CriticLearningRate(const CriticSection& critic, int64_t step) {
  return critic.learning_rate * Warmup(critic.warmup_steps, step);
}

double SftLearningRate(const SftSection& sft, int64_t step) {
  const double decay_steps = sft.decay_fraction * static_cast<double>(sft.steps);
  return sft.learning_rate *
         std::min(Warmup(sft.warmup_steps, step), LinearTail(sft.steps, decay_steps, step));
}

}  // namespace tramontane
