// What becomes of a batch that filters leave too little for: trainer.starvation.
#pragma once

#include <cstdint>

#include "common/config.h"

namespace tramontane {

class Starvation {
 public:
  enum class Answer { kWait, kTakeShort, kPause };

  explicit Starvation(const TrainerSection& trainer) : trainer_(trainer) {}

  // `dropped`: groups that ended untrained since the last step, when `wanted` make a batch.
  Answer Look(int64_t dropped, int64_t wanted) const {
    if (dropped - forgiven_ < trainer_.starvation_steps * wanted) return Answer::kWait;
    if (trainer_.starvation == "short") return Answer::kTakeShort;
    return trainer_.starvation == "pause" ? Answer::kPause : Answer::kWait;
  }
  // After a pause the count begins again.
  void Forgive(int64_t dropped) { forgiven_ = dropped; }
  void StepTaken() { forgiven_ = 0; }

 private:
  const TrainerSection trainer_;
  int64_t forgiven_ = 0;
};

}  // namespace tramontane
