// The learner: groups in, one optimiser step, a report out. Owns the master weights and AdamW.
// One thread calls it; it computes microbatches on `trainer.threads` threads of each of
// `trainer.ranks` processes. Rank 0's learner is the one that is called; those of the other ranks
// are told what to do (trainer/learner/rank_worker.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "data/dataset.h"
#include "model/weights/manifest.h"

namespace tramontane {

class RankGroup;
class Transformer;

struct StepReport {
  int64_t step = 0;        // step number just done (first = 1); also the weight version
  bool skipped = false;    // no update was made
  bool nonfinite = false;  // … because the loss or the gradient was not finite
  std::string skip_reason;
  double loss = 0, grad_norm = 0, learning_rate = 0;
  // |generator − trainer| log-probability over rollouts that version step − 1 sampled from first to
  // last token; 0 tokens when the batch has none. (Later tokens of a rollout that began under an
  // older version were sampled with kept KV: metrics["logprob_gap_stale_kv_*"].)
  double logprob_gap_mean = 0, logprob_gap_max = 0;
  int64_t logprob_gap_tokens = 0;
  int64_t sequences = 0, response_tokens = 0;
  // Fed to the model: of all sequences, and what is left where a group's prompt is computed once.
  int64_t input_tokens = 0, packed_tokens = 0;
  double seconds = 0;
  std::map<std::string, double> phase_seconds;  // pack, forward_backward, optimiser, …
  std::map<std::string, double> metrics;        // clip shares, entropy, ratio, advantage, …
};

class Learner {
 public:
  // `ranks`: the processes that learn together, trainer.ranks of them; null for one. Rank 0's
  // model is everybody's. FailedPrecondition: their number is another one.
  static absl::StatusOr<std::unique_ptr<Learner>> Create(const RunConfig& config,
                                                         std::shared_ptr<Transformer> model,
                                                         MetricsRegistry& metrics,
                                                         RankGroup* ranks = nullptr);
  // For SftStep and DpoStep alone, by config.run.kind: of what the configuration's RL stage wants,
  // no critic and no reference; distill has its teacher, dpo the policy it starts from.
  static absl::StatusOr<std::unique_ptr<Learner>> CreateForSft(const RunConfig& config,
                                                               std::shared_ptr<Transformer> model,
                                                               MetricsRegistry& metrics,
                                                               RankGroup* ranks = nullptr);
  ~Learner();

  // One RL step over complete groups. `step` counts from 1 and drives schedules. Deterministic: the
  // same weights, groups, step, trainer.threads and trainer.ranks give the same bits.
  // Errors: InvalidArgument (a malformed group), Internal and ResourceExhausted (tensor code). The
  // weights are unchanged by the update that failed; what the step did before it (earlier ones of
  // trainer.updates_per_step, the policy's before the critic's) stands. A non-finite loss or
  // gradient is no error but a skipped report; weights that came out non-finite are Internal, and
  // the learner must not be used further. With ranks, Unavailable and DeadlineExceeded (one is gone
  // or silent) and every error that is not InvalidArgument end the group and with it the learner.
  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step);
  // InvalidArgument: what Step refuses of a group. Any thread, beside a step.
  absl::Status Check(const Group& group) const;
  // One SFT step: cross-entropy over completion tokens; of kind distill their KL from the teacher.
  absl::StatusOr<StepReport> SftStep(const std::vector<SftExample>& examples, int64_t step);
  // One step of kind dpo (trainer/learner/preference.h).
  absl::StatusOr<StepReport> DpoStep(const std::vector<PreferencePair>& pairs, int64_t step);

  // The loss that SftStep or DpoStep would report of these rows, without learning from them: of sft
  // and distill a mean over their tokens (the multi-token-prediction head left out), of dpo over
  // the pairs. Not empty.
  absl::StatusOr<double> HeldOutLoss(const std::vector<SftExample>& examples);
  absl::StatusOr<double> HeldOutLoss(const std::vector<PreferencePair>& pairs);

  // Optimiser state, beside the Hugging Face weights; see trainer/learner/checkpoint.h. LoadState
  // expects the model to be loaded already (Create got it).
  absl::Status SaveState(const std::string& dir) const;
  absl::Status LoadState(const std::string& dir);

  // A snapshot for the generators: manifest (with probe) and flat payload.
  WeightManifest Snapshot(int64_t version, std::vector<char>& payload) const;

  Transformer& model();
  const Transformer& model() const;

 private:
  class Impl;
  explicit Learner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
