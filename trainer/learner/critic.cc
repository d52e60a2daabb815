#include "trainer/learner/critic.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "common/files.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "model/guard_torch.h"
#include "model/packed_attention.h"
#include "model/transformer.h"
#include "trainer/learner/policy_loss.h"

namespace tramontane {
namespace {

const char* const kFolder = "/critic";

// How well `value` says what `target` is, over the kept rows' tokens.
void Explain(const CriticLesson& lesson, CriticReport& report) {
  double count = 0, target = 0, target2 = 0, value = 0, error = 0, error2 = 0;
  for (size_t i = 0; i < lesson.kept.size(); ++i) {
    if (!lesson.kept[i]) continue;
    for (size_t t = lesson.value_old.first[i]; t < lesson.value_old.first[i + 1]; ++t) {
      const double y = lesson.value_target.values[t], e = y - lesson.value_old.values[t];
      count += 1;
      target += y;
      target2 += y * y;
      value += lesson.value_old.values[t];
      error += e;
      error2 += e * e;
    }
  }
  if (count == 0) return;
  report.value_mean = value / count;
  report.target_mean = target / count;
  const double spread = target2 / count - std::pow(target / count, 2);
  const double left = error2 / count - std::pow(error / count, 2);
  if (spread > 1e-12) report.explained_variance = 1 - left / spread;
}

}  // namespace

bool NeedsCritic(const AlgorithmConfig& algorithm) {
  return algorithm.advantage.baseline == "value";
}

Critic::Critic(const Transformer& policy, const RunConfig& config, Crew& crew)
    : section_(config.critic),
      auxiliary_(config.algorithm.auxiliary),
      microbatch_tokens_(config.trainer.microbatch_tokens),
      crew_(crew),
      body_(policy.Clone()) {
  body_->set_recompute_layers(config.trainer.activation_checkpointing);
  const at::Tensor first = policy.parameters().front();
  head_.weight_D = at::zeros({policy.config().hidden_size}, first.options().requires_grad(false));
  head_.bias = at::zeros({1}, head_.weight_D.options());
  optimiser_.emplace(std::make_unique<WholeWeights>(Names()), config.trainer, crew);
}

NamedParameters Critic::Names() const {
  NamedParameters names;
  for (const auto& item : body_->named_parameters()) names.emplace_back(item.key(), item.value());
  names.emplace_back("value_head.weight", head_.weight_D);
  names.emplace_back("value_head.bias", head_.bias);
  return names;
}

// In at least float32, like the policy's log-probabilities. [R]
at::Tensor Critic::ValueOf(const PackedRows& packed, PackedAttention& attention) const {
  const at::Tensor hidden_TD = body_->Forward(packed.tokens_T, packed.positions_T, attention);
  return head_.Of(hidden_TD.index_select(0, packed.hidden_rows_R));
}

absl::StatusOr<SampledValues> Critic::Values(std::span<const TrainRow> rows) {
  SampledValues values = SampledValues::Like(rows);
  const PackPlan plan = crew_.Plan(rows, std::vector<uint8_t>(rows.size(), 1), microbatch_tokens_);
  RETURN_IF_ERROR(crew_.ForEach(plan, [&](int, int32_t m) {
    return GuardTorch([&] {
      const at::NoGradGuard no_grad;
      const std::vector<int32_t>& members = plan.microbatches[m];
      const PackedRows packed = PackRows(rows, members);
      PackedAttention attention(packed.offsets, packed.continues);
      GatherSampled(rows, members, ValueOf(packed, attention), values);
    });
  }));
  RETURN_IF_ERROR(crew_.Share(values.values));
  return values;
}

absl::Status Critic::Update(const CriticLesson& lesson, const std::vector<uint8_t>& members,
                            CriticReport& report) {
  const PackPlan plan = crew_.Plan(lesson.rows, members, microbatch_tokens_);
  double tokens = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i]) tokens += static_cast<double>(lesson.rows[i].sampled_tokens());
  }
  if (plan.microbatches.empty() || tokens == 0) return absl::OkStatus();
  std::vector<double> losses(plan.microbatches.size(), 0.0);
  RETURN_IF_ERROR(optimiser_->Accumulate(plan, [&](int32_t m, const Backward& backward) {
    return GuardTorch([&] {
      const std::vector<int32_t>& rows = plan.microbatches[m];
      const PackedRows packed = PackRows(lesson.rows, rows);
      PackedAttention attention(packed.offsets,
                                packed.continues);  // until the backward pass is over
      at::Tensor value_R = ValueOf(packed, attention);
      const at::Tensor masked_R = InjectedMask(lesson.rows, rows, packed.responses());
      // Zeroed before the square, so that an injected token's value cannot overflow into NaN.
      if (masked_R.defined()) value_R = value_R.masked_fill(masked_R, 0);
      const auto like = [&](const SampledValues& sampled) {
        return ScatterSampled(lesson.rows, rows, sampled).to(value_R.scalar_type());
      };
      const at::Tensor loss = ValueLoss(value_R, like(lesson.value_old), like(lesson.value_target),
                                        auxiliary_.value_clip)
                                  .sum() /
                              tokens;
      losses[m] = loss.item<double>();
      backward(auxiliary_.value_coefficient * loss);
    });
  }));
  RETURN_IF_ERROR(crew_.Share(plan, losses));
  double loss = 0;
  for (double part : losses) loss += part;
  ASSIGN_OR_RETURN(report.grad_norm, optimiser_->Reduce());
  if (!std::isfinite(loss) || !std::isfinite(report.grad_norm)) {
    ++report.nonfinite;
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(optimiser_->Apply(report.grad_norm, {.learning_rate = lesson.learning_rate,
                                                       .weight_decay = section_.weight_decay,
                                                       .max_grad_norm = section_.max_grad_norm}));
  report.value_loss += loss;
  ++report.updates;
  return absl::OkStatus();
}

absl::StatusOr<CriticReport> Critic::Learn(const CriticLesson& lesson) {
  CriticReport report;
  Explain(lesson, report);
  const auto kept =
      static_cast<int64_t>(std::count(lesson.kept.begin(), lesson.kept.end(), uint8_t{1}));
  const int64_t shares = std::min<int64_t>(section_.steps_per_rollout, kept);
  for (int64_t share = 0; share < shares; ++share) {
    std::vector<uint8_t> members(lesson.kept.size(), 0);
    int64_t nth = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (lesson.kept[i]) members[i] = nth++ % shares == share;
    }
    RETURN_IF_ERROR(Update(lesson, members, report));
  }
  report.value_loss /= std::max<double>(static_cast<double>(report.updates), 1);
  return report;
}

absl::Status Critic::Save(const std::string& dir) const {
  const std::string folder = dir + kFolder;
  RETURN_IF_ERROR(crew_.Lead([&]() -> absl::Status {
    RETURN_IF_ERROR(MakeDirs(folder));
    RETURN_IF_ERROR(SaveTransformer(*body_, folder, folder));
    return SaveValueHead(head_, folder);
  }));
  return optimiser_->Save(folder);
}

absl::Status Critic::LoadWeights(const std::string& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) {
    return absl::NotFoundError(
        folder +
        ": the checkpoint was made without a critic; advantage.baseline value cannot be "
        "switched on when a run is resumed");
  }
  std::shared_ptr<Transformer> loaded;
  ASSIGN_OR_RETURN(loaded,
                   LoadTransformer(folder, head_.weight_D.device(), head_.weight_D.scalar_type()));
  const auto expected = body_->NamedWeights(), got = loaded->NamedWeights();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (i < got.size() && expected[i].second.sizes() == got[i].second.sizes()) continue;
    return absl::InvalidArgumentError(folder + ": is another model than the critic trained, at " +
                                      expected[i].first);
  }
  RETURN_IF_ERROR(LoadValueHead(folder, head_));
  return GuardTorch([&] { body_->CopyFrom(*loaded); });
}

absl::Status Critic::Load(const std::string& dir) {
  const std::string folder = dir + kFolder;
  RETURN_IF_ERROR(crew_.Lead([&] { return LoadWeights(folder); }));
  RETURN_IF_ERROR(Spread(crew_.ranks(), TensorsOf(Names())));
  return optimiser_->Load(folder);
}

int64_t Critic::bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : Names()) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace tramontane
