// What the run loop needs of a learner: step, snapshot, save. LearnerTrainable
// (trainer/learner_trainable.h) is the real one; tests use a fake, so that the loop, its journal
// and its recovery are tested without tensors. The loop's thread alone calls it, but for Check.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "model/weights/manifest.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"

namespace tramontane {

class Trainable {
 public:
  virtual ~Trainable() = default;

  // One RL step over complete groups, numbered from 1. Deterministic: the same weights, groups and
  // step give the same weights, which is what makes replaying the journal an exact recovery.
  virtual absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step) = 0;
  // InvalidArgument: Step would refuse any batch with this group (a token outside the vocabulary,
  // log- probabilities missing). Any thread, beside a step.
  virtual absl::Status Check(const Group& group) const = 0;
  virtual WeightManifest Snapshot(int64_t version, std::vector<char>& payload) const = 0;
  // On return the checkpoint is durable; its size in bytes. ResourceExhausted: disk full, nothing
  // half-written.
  virtual absl::StatusOr<int64_t> SaveCheckpoint(const CheckpointState& state) = 0;
};

}  // namespace tramontane
