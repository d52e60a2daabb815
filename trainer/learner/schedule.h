// Learning rates. Steps count from 1.
#pragma once

#include <cstdint>

#include "common/config.h"

namespace tramontane {

// Linear warm-up over trainer.warmup_steps (full at its last step), then constant, or linear so
// that the step after `max_steps` would have rate 0.
double RlLearningRate(const TrainerSection& trainer, int64_t max_steps, int64_t step);

// Linear warm-up over critic.warmup_steps, then constant.
double CriticLearningRate(const CriticSection& critic, int64_t step);

// Linear warm-up, constant, then linear to 0 over the last sft.decay_fraction of sft.steps.
double SftLearningRate(const SftSection& sft, int64_t step);

}  // namespace tramontane
