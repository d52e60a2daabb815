#include "trainer/learner/microbatch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/clock.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/ops/logprob.h"
#include "model/packed_attention.h"
#include "model/transformer.h"
#include "trainer/learner/vocab_kl.h"

namespace tramontane {
namespace {

constexpr int64_t kKlChunkRows = 1024;

// Per-row numbers spread over the row's response tokens. [R]
at::Tensor Spread(const StepRows& step, const std::vector<int32_t>& members,
                  const std::vector<double>& values, const at::Tensor& like_R) {
  return SpreadRows(step.rows, members, values).to(like_R.scalar_type());
}

at::Tensor Behaviour(const StepRows& step, const std::vector<int32_t>& members,
                     const at::Tensor& like_R) {
  at::Tensor behaviour_R = at::empty({like_R.numel()}, at::kFloat);
  float* out = behaviour_R.data_ptr<float>();
  for (int32_t i : members)
    out = std::copy(step.rows[i].behaviour.begin(), step.rows[i].behaviour.end(), out);
  return behaviour_R.to(like_R.scalar_type());
}

void MeasureGaps(const StepRows& step, const std::vector<int32_t>& members,
                 const at::Tensor& logprob_R, int64_t version, MicrobatchOutput& output) {
  const at::Tensor trainer_R = logprob_R.detach().to(at::kFloat).contiguous();
  const float* trainer = trainer_R.data_ptr<float>();
  for (int32_t i : members) {
    const TrainRow& row = step.rows[i];
    size_t t = 0;
    auto injected = row.injected.begin();
    for (size_t s = 0; s < row.versions.size(); ++s) {
      GapSums& gap = s == 0 ? output.gap : output.gap_stale_kv;
      for (int32_t n = 0; n < row.versions[s].count; ++n, ++t) {
        while (injected != row.injected.end() && t >= size_t(injected->begin + injected->count))
          ++injected;
        const bool sampled = injected == row.injected.end() || t < size_t(injected->begin);
        if (sampled) output.mismatch.Add(trainer[t], row.behaviour[t]);
        if (sampled && row.versions[s].version == version)
          gap.Add(std::abs(double{trainer[t]} - row.behaviour[t]));
      }
    }
    trainer += row.response.size();
  }
}

// The last hidden states that predict the response tokens, [R, width]; prompt positions never reach
// the LM head. Rows sampled at different temperatures are divided by their own here, which is the
// same as dividing their logits; the return value is what is left to divide by. `routes` is null
// for models whose routers choose for themselves; `all_TD` takes the hidden states of all inputs.
// `attention` is the microbatch's, and lives until its backward pass is over.
double Responses(Transformer& model, const StepRows& step, const std::vector<int32_t>& members,
                 const PackedRows& packed, PackedAttention& attention, HeadInput& head,
                 RouteSums* routes, at::Tensor* all_TD = nullptr) {
  const bool replays = routes != nullptr && step.replay_routes;
  Routing routing;
  if (replays) {
    routing.asked_TLK = PackRoutes(step.rows, members, packed, model.config().expert_layers(),
                                   model.config().experts_per_token);
  }
  const at::Tensor hidden_TD =
      model.Forward(packed.tokens_T, packed.positions_T, attention, replays ? &routing : nullptr);
  if (replays) *routes = {routing.replayed, routing.differing};
  if (all_TD != nullptr) *all_TD = hidden_TD;
  head = {hidden_TD.index_select(0, packed.hidden_rows_R), model.lm_head_weight()};
  const double first = step.rows[members[0]].temperature;
  const auto same = [&](int32_t i) { return step.rows[i].temperature == first; };
  if (std::all_of(members.begin(), members.end(), same)) return first;
  std::vector<double> temperature;
  for (const TrainRow& row : step.rows) temperature.push_back(row.temperature);
  head.hidden_RD =
      head.hidden_RD / Spread(step, members, temperature, head.hidden_RD.select(1, 0)).unsqueeze(1);
  return 1;
}

// π_ref's side of the batch.
void AddReference(const StepRows& step, const std::vector<int32_t>& members, const StepMath& math,
                  const PackedRows& packed, const HeadInput& policy, double temperature,
                  TokenBatch& batch) {
  const KlConfig& kl = math.algorithm.kl;
  if (kl.reference == "iterate") batch.reference_T = batch.behaviour_T;
  if (kl.kind == "none" || math.reference == nullptr) return;
  HeadInput reference;
  {
    const at::NoGradGuard no_grad;
    PackedAttention attention(packed.offsets, packed.continues);
    Responses(*math.reference, step, members, packed, attention, reference, nullptr);
    if (kl.kind != "full") {
      batch.reference_T = ChunkedLogprob(reference.hidden_RD, reference.weight_VD, packed.targets_R,
                                         temperature, false)
                              .logprob;
    }
  }
  if (kl.kind == "full")
    batch.full_kl_T = VocabKl(policy, reference, temperature, math.direction, kKlChunkRows,
                              math.reference_top_k);
}

TokenBatch MakeBatch(const StepRows& step, const std::vector<int32_t>& members,
                     const StepMath& math, const PackedRows& packed, const LogprobResult& result) {
  TokenBatch batch;
  batch.logprob_T = result.logprob;
  if (math.algorithm.entropy.kind != "none") batch.entropy_T = result.entropy;
  if (!step.rows[members[0]].behaviour.empty())
    batch.behaviour_T = Behaviour(step, members, result.logprob);
  if (math.algorithm.correction.anchor == "recomputed") {
    batch.proximal_T =
        step.proximal.first.empty()
            ? result.logprob.detach()
            : ScatterSampled(step.rows, members, step.proximal).to(result.logprob.scalar_type());
  }
  batch.advantage_T = step.token_advantage.first.empty()
                          ? Spread(step, members, step.advantage, result.logprob)
                          : ScatterSampled(step.rows, members, step.token_advantage)
                                .to(result.logprob.scalar_type());
  batch.weight_T = Spread(step, members, step.token_weight, result.logprob);
  batch.masked_T = InjectedMask(step.rows, members, packed.responses());
  // Statistics count tokens by their weight, so a masked one must not have any.
  if (batch.masked_T.defined()) batch.weight_T = batch.weight_T.masked_fill(batch.masked_T, 0);
  if (!step.positive_weight.empty()) {
    batch.positive_weight_T = Spread(step, members, step.positive_weight, result.logprob);
  }
  batch.sequence_T = packed.sequence_R;
  batch.sequences = static_cast<int64_t>(members.size());
  return batch;
}

// −log p of the response tokens under the multi-token-prediction head, which sees what comes before
// the token that each follows, and that token. 0 where nothing comes before it. [R]
at::Tensor MtpNegativeLogprob(Transformer& model, const StepRows& step,
                              const std::vector<int32_t>& members, const PackedRows& packed,
                              const at::Tensor& hidden_TD) {
  at::Tensor next_T = at::empty_like(packed.tokens_T);
  at::Tensor row_R = at::empty_like(packed.hidden_rows_R);  // −1: none
  int64_t *next = next_T.data_ptr<int64_t>(), *behind = row_R.data_ptr<int64_t>();
  for (size_t s = 0; s < members.size(); ++s) {
    const TrainRow& row = step.rows[members[s]];
    const RowPlace& place = packed.places[s];
    const auto prompt = static_cast<int64_t>(row.prompt.size());
    for (int64_t t = 1; t <= row.input_tokens(); ++t) {
      next[place.At(t - 1)] = row.TokenAt(t);
      if (t >= prompt) *behind++ = t < 2 ? -1 : place.At(t - 2);
    }
  }
  PackedAttention attention(packed.offsets, packed.continues);
  const at::Tensor foreseen_TD = model.MtpForward(hidden_TD, next_T, packed.positions_T, attention);
  const at::Tensor logprob_R =
      ChunkedLogprob(foreseen_TD.index_select(0, row_R.clamp_min(0)),
                     model.lm_head_weight().detach(), packed.targets_R, 1.0,
                     /*want_entropy=*/false)
          .logprob;
  return (-logprob_R).masked_fill(row_R.lt(0), 0);
}

}  // namespace

void GapSums::Add(double gap) {
  sum += gap;
  max = std::max(max, gap);
  ++tokens;
}

void GapSums::Add(const GapSums& other) {
  sum += other.sum;
  max = std::max(max, other.max);
  tokens += other.tokens;
}

void MicrobatchOutput::Add(const MicrobatchOutput& other) {
  loss += other.loss;
  mtp_loss += other.mtp_loss;
  sums.Add(other.sums);
  gap.Add(other.gap);
  gap_stale_kv.Add(other.gap_stale_kv);
  mismatch.Add(other.mismatch);
  routes.replayed += other.routes.replayed;
  routes.differing += other.routes.differing;
  forward_seconds += other.forward_seconds;
  backward_seconds += other.backward_seconds;
}

absl::Status ComputeMicrobatch(Transformer& model, const StepRows& step,
                               const std::vector<int32_t>& members, const StepMath& math,
                               const Backward& backward, MicrobatchOutput& output) {
  absl::Status loss_status;
  const absl::Status tensor_status = GuardTorch([&] {
    const auto start = std::chrono::steady_clock::now();
    const PackedRows packed = PackRows(step.rows, members);
    PackedAttention attention(packed.offsets, packed.continues);
    HeadInput head;
    at::Tensor hidden_TD;
    const double temperature =
        Responses(model, step, members, packed, attention, head, &output.routes, &hidden_TD);
    const LogprobResult result = ChunkedLogprob(head.hidden_RD, head.weight_VD, packed.targets_R,
                                                temperature, math.algorithm.entropy.kind != "none");
    TokenBatch batch = MakeBatch(step, members, math, packed, result);
    if (math.algorithm.kl.where == "loss")
      AddReference(step, members, math, packed, head, temperature, batch);
    absl::StatusOr<PolicyLossOutput> loss = PolicyLoss(batch, math.algorithm);
    if (!loss.ok()) {
      loss_status = loss.status();
      return;
    }
    at::Tensor total = loss->loss;
    if (math.mtp_weight > 0) {
      const at::Tensor mtp =
          (batch.weight_T * MtpNegativeLogprob(model, step, members, packed, hidden_TD)).sum();
      output.mtp_loss = mtp.item<double>();
      total = total + math.mtp_weight * mtp;
    }
    output.loss = total.item<double>();
    output.sums = loss->sums;
    MeasureGaps(step, members, result.logprob, math.version, output);
    output.forward_seconds = SecondsSince(start);

    const auto backward_start = std::chrono::steady_clock::now();
    backward(total);
    output.backward_seconds = SecondsSince(backward_start);
  });
  RETURN_IF_ERROR(tensor_status);
  return loss_status;
}

absl::Status ComputeTokenKl(Transformer& model, const StepRows& step,
                            const std::vector<int32_t>& members, const StepMath& math,
                            SampledValues& kl) {
  return GuardTorch([&] {
    const at::NoGradGuard no_grad;
    const AlgorithmConfig& a = math.algorithm;
    const PackedRows packed = PackRows(step.rows, members);
    PackedAttention attention(packed.offsets, packed.continues);
    HeadInput head;
    RouteSums routes;
    const double temperature = Responses(model, step, members, packed, attention, head, &routes);
    const LogprobResult result = ChunkedLogprob(head.hidden_RD, head.weight_VD, packed.targets_R,
                                                temperature, /*want_entropy=*/false);
    TokenBatch batch;  // without advantages: they follow from what is computed here
    batch.behaviour_T = Behaviour(step, members, result.logprob);
    AddReference(step, members, math, packed, head, temperature, batch);
    const at::Tensor& anchor_R =
        a.correction.anchor == "recomputed" ? result.logprob : batch.behaviour_T;
    const at::Tensor kl_R = a.kl.kind == "full"
                                ? batch.full_kl_T
                                : KlEstimate(anchor_R, batch.reference_T, a.kl.kind, a.conventions);
    GatherSampled(step.rows, members, kl_R, kl);
  });
}

absl::Status ComputeLogprobs(Transformer& model, const StepRows& step,
                             const std::vector<int32_t>& members, SampledValues& logprobs) {
  return GuardTorch([&] {
    const at::NoGradGuard no_grad;
    const PackedRows packed = PackRows(step.rows, members);
    PackedAttention attention(packed.offsets, packed.continues);
    HeadInput head;
    RouteSums routes;
    const double temperature = Responses(model, step, members, packed, attention, head, &routes);
    const LogprobResult result = ChunkedLogprob(head.hidden_RD, head.weight_VD, packed.targets_R,
                                                temperature, /*want_entropy=*/false);
    GatherSampled(step.rows, members, result.logprob, logprobs);
  });
}

}  // namespace tramontane
