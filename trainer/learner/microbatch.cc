#include "trainer/learner/microbatch.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

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

// T input tokens, R response tokens (rows of the LM head), S sequences.
struct PackedTensors {
  at::Tensor tokens_T, positions_T;  // int64
  at::Tensor hidden_rows_R;          // int64: the position that predicts each response token
  at::Tensor targets_R, sequence_R;  // int64
  std::vector<int64_t> offsets;      // S + 1
};

PackedTensors Pack(const StepRows& step, const std::vector<int32_t>& members) {
  PackedTensors packed;
  packed.offsets.push_back(0);
  int64_t responses = 0;
  for (int32_t i : members) {
    packed.offsets.push_back(packed.offsets.back() + step.rows[i].input_tokens());
    responses += static_cast<int64_t>(step.rows[i].response.size());
  }
  const auto ints = [](int64_t size) { return at::empty({size}, at::kLong); };
  packed.tokens_T = ints(packed.offsets.back());
  packed.positions_T = ints(packed.offsets.back());
  packed.hidden_rows_R = ints(responses);
  packed.targets_R = ints(responses);
  packed.sequence_R = ints(responses);
  int64_t* token = packed.tokens_T.data_ptr<int64_t>();
  int64_t* position = packed.positions_T.data_ptr<int64_t>();
  int64_t* hidden_row = packed.hidden_rows_R.data_ptr<int64_t>();
  int64_t* target = packed.targets_R.data_ptr<int64_t>();
  int64_t* sequence = packed.sequence_R.data_ptr<int64_t>();
  for (size_t s = 0; s < members.size(); ++s) {
    const TrainRow& row = step.rows[members[s]];
    token = std::copy(row.prompt.begin(), row.prompt.end(), token);
    token = std::copy(row.response.begin(), row.response.end() - 1, token);
    for (int64_t t = 0; t < row.input_tokens(); ++t) *position++ = t;
    const int64_t first = packed.offsets[s] + static_cast<int64_t>(row.prompt.size()) - 1;
    for (size_t t = 0; t < row.response.size(); ++t)
      *hidden_row++ = first + static_cast<int64_t>(t);
    target = std::copy(row.response.begin(), row.response.end(), target);
    sequence = std::fill_n(sequence, row.response.size(), static_cast<int64_t>(s));
  }
  return packed;
}

// Per-row numbers spread over the row's response tokens.
at::Tensor Spread(const StepRows& step, const std::vector<int32_t>& members,
                  const std::vector<double>& values, const at::Tensor& like_R) {
  at::Tensor spread_R = at::empty({like_R.numel()}, at::kDouble);
  double* out = spread_R.data_ptr<double>();
  for (int32_t i : members) out = std::fill_n(out, step.rows[i].response.size(), values[i]);
  return spread_R.to(like_R.scalar_type());
}

at::Tensor Behaviour(const StepRows& step, const std::vector<int32_t>& members,
                     const at::Tensor& like_R) {
  at::Tensor behaviour_R = at::empty({like_R.numel()}, at::kFloat);
  float* out = behaviour_R.data_ptr<float>();
  for (int32_t i : members)
    out = std::copy(step.rows[i].behaviour.begin(), step.rows[i].behaviour.end(), out);
  return behaviour_R.to(like_R.scalar_type());
}

// True where the policy did not sample; undefined when it sampled every token.
at::Tensor Masked(const StepRows& step, const std::vector<int32_t>& members, int64_t responses) {
  const auto has = [&](int32_t i) { return !step.rows[i].injected.empty(); };
  if (std::none_of(members.begin(), members.end(), has)) return {};
  at::Tensor masked_R = at::zeros({responses}, at::kBool);
  bool* out = masked_R.data_ptr<bool>();
  for (int32_t i : members) {
    for (const TokenSpan& span : step.rows[i].injected)
      std::fill_n(out + span.begin, span.count, true);
    out += step.rows[i].response.size();
  }
  return masked_R;
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
// same as dividing their logits; the return value is what is left to divide by.
double Responses(Transformer& model, const StepRows& step, const std::vector<int32_t>& members,
                 const PackedTensors& packed, HeadInput& head) {
  PackedAttention attention(packed.offsets);
  const at::Tensor hidden_TD = model.Forward(packed.tokens_T, packed.positions_T, attention);
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
                  const PackedTensors& packed, const HeadInput& policy, double temperature,
                  TokenBatch& batch) {
  const KlConfig& kl = math.algorithm.kl;
  if (kl.reference == "iterate") batch.reference_T = batch.behaviour_T;
  if (kl.kind == "none" || math.reference == nullptr) return;
  HeadInput reference;
  {
    const at::NoGradGuard no_grad;
    Responses(*math.reference, step, members, packed, reference);
    if (kl.kind != "full") {
      batch.reference_T = ChunkedLogprob(reference.hidden_RD, reference.weight_VD, packed.targets_R,
                                         temperature, false)
                              .logprob;
    }
  }
  if (kl.kind == "full")
    batch.full_kl_T = VocabKl(policy, reference, temperature, KlDirection::kReverse);
}

TokenBatch MakeBatch(const StepRows& step, const std::vector<int32_t>& members,
                     const StepMath& math, const PackedTensors& packed,
                     const LogprobResult& result) {
  TokenBatch batch;
  batch.logprob_T = result.logprob;
  if (math.algorithm.entropy.kind != "none") batch.entropy_T = result.entropy;
  if (!step.rows[members[0]].behaviour.empty())
    batch.behaviour_T = Behaviour(step, members, result.logprob);
  // One update per batch: the policy before the update is the policy that this forward computes.
  if (math.algorithm.correction.anchor == "recomputed") batch.proximal_T = result.logprob.detach();
  batch.advantage_T = Spread(step, members, step.advantage, result.logprob);
  batch.weight_T = Spread(step, members, step.token_weight, result.logprob);
  batch.masked_T = Masked(step, members, packed.targets_R.numel());
  // Statistics count tokens by their weight, so a masked one must not have any.
  if (batch.masked_T.defined()) batch.weight_T = batch.weight_T.masked_fill(batch.masked_T, 0);
  if (!step.positive_weight.empty()) {
    batch.positive_weight_T = Spread(step, members, step.positive_weight, result.logprob);
  }
  batch.sequence_T = packed.sequence_R;
  batch.sequences = static_cast<int64_t>(members.size());
  return batch;
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

absl::Status ComputeMicrobatch(Transformer& model, const std::vector<at::Tensor>& parameters,
                               const StepRows& step, const std::vector<int32_t>& members,
                               const StepMath& math, const std::vector<at::Tensor>& gradients,
                               MicrobatchOutput& output) {
  absl::Status loss_status;
  const absl::Status tensor_status = GuardTorch([&] {
    const auto start = std::chrono::steady_clock::now();
    const PackedTensors packed = Pack(step, members);
    HeadInput head;
    const double temperature = Responses(model, step, members, packed, head);
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
    output.loss = loss->loss.item<double>();
    output.sums = loss->sums;
    MeasureGaps(step, members, result.logprob, math.version, output);
    output.forward_seconds = SecondsSince(start);

    const auto backward_start = std::chrono::steady_clock::now();
    const auto computed = torch::autograd::grad({loss->loss}, parameters, /*grad_outputs=*/{},
                                                /*retain_graph=*/false, /*create_graph=*/false,
                                                /*allow_unused=*/true);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < computed.size(); ++i) {
      if (computed[i].defined()) gradients[i].add_(computed[i]);
    }
    output.backward_seconds = SecondsSince(backward_start);
  });
  RETURN_IF_ERROR(tensor_status);
  return loss_status;
}

absl::Status SumRowKl(Transformer& model, const StepRows& step, const std::vector<int32_t>& members,
                      const StepMath& math, std::vector<double>& kl) {
  return GuardTorch([&] {
    const at::NoGradGuard no_grad;
    const AlgorithmConfig& a = math.algorithm;
    const PackedTensors packed = Pack(step, members);
    HeadInput head;
    const double temperature = Responses(model, step, members, packed, head);
    const LogprobResult result = ChunkedLogprob(head.hidden_RD, head.weight_VD, packed.targets_R,
                                                temperature, /*want_entropy=*/false);
    TokenBatch batch;  // without advantages: they follow from what is computed here
    batch.behaviour_T = Behaviour(step, members, result.logprob);
    batch.masked_T = Masked(step, members, packed.targets_R.numel());
    batch.sequence_T = packed.sequence_R;
    batch.sequences = static_cast<int64_t>(members.size());
    AddReference(step, members, math, packed, head, temperature, batch);
    const at::Tensor& anchor_R =
        a.correction.anchor == "recomputed" ? result.logprob : batch.behaviour_T;
    at::Tensor kl_R = a.kl.kind == "full"
                          ? batch.full_kl_T
                          : KlEstimate(anchor_R, batch.reference_T, a.kl.kind, a.conventions);
    if (batch.masked_T.defined()) kl_R = kl_R.masked_fill(batch.masked_T, 0);
    const at::Tensor kl_S = at::zeros({batch.sequences}, at::kDouble)
                                .index_add(0, batch.sequence_T, kl_R.to(at::kDouble));
    for (size_t s = 0; s < members.size(); ++s) kl[members[s]] += kl_S.data_ptr<double>()[s];
  });
}

}  // namespace tramontane
