// The critic: V(s_t), what the policy will earn after prompt and response tokens before t. A model
// of its own (a second transformer body with a linear head, nothing shared with the policy), with
// its own AdamW; its body starts as the policy's, its head at 0.
//
// The learner's thread calls it; microbatches run on the learner's crew, and every rank has a copy.
// Deterministic like the learner's own step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "model/value_head.h"
#include "trainer/learner/crew.h"
#include "trainer/learner/optimiser.h"
#include "trainer/learner/packed_rows.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {

class PackedAttention;
class Transformer;

// Whether a run of this algorithm has a critic.
bool NeedsCritic(const AlgorithmConfig& algorithm);

struct CriticLesson {
  std::span<const TrainRow> rows;
  std::vector<uint8_t> kept;              // rows to learn from
  SampledValues value_old, value_target;  // as sampled, and what it should have been
  double learning_rate = 0;
};

struct CriticReport {
  double value_loss = 0;  // mean over tokens and updates
  double explained_variance =
      0;  // 1 − Var(target − V) / Var(target) before the updates; 0 if undefined
  double value_mean = 0, target_mean = 0;
  double grad_norm = 0;  // of the last update, before clipping
  int64_t updates = 0;
  int64_t nonfinite = 0;  // updates left out for a loss or gradient that was not finite
};

class Critic {
 public:
  // Throws what tensor code throws. `config` is read once; `crew` outlives the critic.
  Critic(const Transformer& policy, const RunConfig& config, Crew& crew);

  // V of every sampled token. No gradient.
  absl::StatusOr<SampledValues> Values(std::span<const TrainRow> rows);

  // critic.steps_per_rollout updates, each on its share of the kept rows (every n-th), towards the
  // targets by the clipped value loss, averaged over the share's sampled tokens.
  absl::StatusOr<CriticReport> Learn(const CriticLesson& lesson);

  // <dir>/critic: the body as a Hugging Face folder, value_head.safetensors, and AdamW's state.
  absl::Status Save(const std::string& dir) const;
  // NotFound: the checkpoint was made without a critic.
  absl::Status Load(const std::string& dir);

  int64_t bytes() const;  // of the weights

 private:
  NamedParameters Names() const;
  absl::Status LoadWeights(const std::string& folder);
  at::Tensor ValueOf(const PackedRows& packed, PackedAttention& attention) const;
  absl::Status Update(const CriticLesson& lesson, const std::vector<uint8_t>& members,
                      CriticReport& report);

  const CriticSection section_;
  const AuxiliaryConfig auxiliary_;
  const int64_t microbatch_tokens_;
  Crew& crew_;
  std::shared_ptr<Transformer> body_;
  ValueHead head_;
  std::optional<Optimiser> optimiser_;
};

}  // namespace tramontane
