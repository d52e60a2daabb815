// What a supervised stage teaches: the rows of sft.data and sft.eval_data, and what learns from
// them. The stage's one thread calls it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"

namespace tramontane {

class Pupil {
 public:
  virtual ~Pupil() = default;

  virtual size_t rows() const = 0;
  // One optimiser step on these rows; steps count from 1.
  virtual absl::StatusOr<StepReport> Step(const std::vector<size_t>& drawn, int64_t step) = 0;
  virtual size_t held_out_rows() const = 0;
  // The same loss over the held-out rows, of which there must be some; nothing is learnt.
  virtual absl::StatusOr<double> HeldOutLoss() = 0;
  // As trainer/learner/checkpoint.h; the newest two are kept.
  virtual absl::Status SaveCheckpoint(const std::string& checkpoints_dir,
                                      const CheckpointState& state) const = 0;
  // A whole model folder, which exists only when it is complete.
  virtual absl::Status SaveResult(const std::string& out_dir) const = 0;
};

inline constexpr int kStageCheckpoints = 2;

}  // namespace tramontane
