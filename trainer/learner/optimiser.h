// How a set of parameters learns: gradients summed over microbatches, threads and ranks, a bound on
// their norm, AdamW.
//
// With ranks, trainer.zero says what each keeps of the whole (Rajbhandari et al., "ZeRO",
// arXiv 1910.02054): 0 everything; 1 AdamW's moments of its shard alone; 2 gradients of its shard
// alone, too. Whatever it is, all ranks have equal weights after each update, and files hold whole
// moments.
//
// One thread calls it; the same calls on every rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/crew.h"
#include "trainer/learner/gradient_hooks.h"
#include "trainer/learner/optimiser_state.h"
#include "trainer/learner/trained_weights.h"

namespace tramontane {

class GradientBuckets;

struct UpdateRule {
  double learning_rate = 0, weight_decay = 0, max_grad_norm = 1;
};

// Runs the backward pass from a scalar; the gradients go where they belong.
using Backward = std::function<void(const at::Tensor& loss)>;

class Optimiser {
 public:
  // The leaves are made to require gradients. Throws what tensor code throws.
  Optimiser(std::unique_ptr<TrainedWeights> weights, const TrainerSection& trainer, Crew& crew);
  ~Optimiser();

  // The gradient of the sum of losses: calls compute(microbatch, backward) for each of this rank's
  // microbatches; workers at once.
  absl::Status Accumulate(
      const PackPlan& plan,
      const std::function<absl::Status(int32_t microbatch, const Backward& backward)>& compute);
  // Sums over workers and ranks; the 2-norm of the whole, which may not be finite.
  absl::StatusOr<double> Reduce();
  // One AdamW update by the gradient that Reduce gave the norm of, scaled to the bound if above it.
  absl::Status Apply(double norm, const UpdateRule& rule);

  void Reset() { adamw_->Reset(); }
  absl::Status Save(const std::string& dir) const;  // trainer/learner/optimiser_state.h
  absl::Status Load(const std::string& dir);

  int64_t state_bytes() const;     // of moments, on this rank
  int64_t gradient_bytes() const;  // of buffers, on this rank

 private:
  absl::Status AccumulateInBuckets(
      const PackPlan& plan,
      const std::function<absl::Status(int32_t microbatch, const Backward& backward)>& compute);
  void RunBackward(const at::Tensor& loss, const TakeGradient& take) const;
  absl::StatusOr<at::Tensor> Gather(const at::Tensor& moment) const;
  absl::Status Scatter(const at::Tensor& whole, at::Tensor& moment) const;
  bool shares() const { return shard_.size() < elements_; }
  at::Tensor Mine() const;  // the gradient of the shard
  absl::Status SumBuffers();
  absl::Status GatherWeights();
  std::vector<Range> ShardsWithin(const Range& window, size_t width) const;

  const std::unique_ptr<TrainedWeights> weights_;
  const std::vector<at::Tensor> parameters_;  // the masters
  Crew& crew_;
  const GradientHooks hooks_;
  const size_t elements_;
  const Range shard_;  // what this rank has moments of: everything, or its share
  std::unique_ptr<AdamW> adamw_;
  std::vector<FlatTensor> gradients_;         // one per worker; the sum ends in the first
  std::vector<uint8_t> touched_;              // by worker: its buffer holds this update's gradient
  std::unique_ptr<GradientBuckets> buckets_;  // zero 2, in place of the buffers
  std::vector<at::Tensor> shard_gradients_;   // of the shard, in AdamW's pieces
};

}  // namespace tramontane
