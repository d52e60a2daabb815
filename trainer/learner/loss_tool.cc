#include "trainer/learner/loss_tool.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/entropy_control.h"
#include "trainer/learner/loss_request.h"
#include "trainer/learner/policy_loss.h"

namespace tramontane {
namespace {

using at::Tensor;

// Calls f(token, sequence) for every sampled token.
template <class F>
void ForSampled(const LossRequest& request, F f) {
  size_t t = 0;
  for (size_t i = 0; i < request.sequences(); ++i) {
    for (int64_t n = 0; n < request.lengths[i]; ++n, ++t) {
      if (request.mask[t] != 0) f(t, i);
    }
  }
}

// kl.where reward: r −= β·k of each token, with the anchor's log-probabilities (a constant). Values
// see it where it arises, groups at the end. token_advantage: each token has its own.
absl::Status ShapeRewardsByKl(LossRequest& request) {
  const AlgorithmConfig& a = request.algorithm;
  if (a.kl.kind == "none" || a.kl.where == "loss") return absl::OkStatus();
  const bool recomputed = a.correction.anchor == "recomputed";
  const Tensor& anchor_T = recomputed ? request.batch.proximal_T : request.batch.behaviour_T;
  const bool full = a.kl.kind == "full";
  if (full ? !request.batch.full_kl_T.defined()
           : !anchor_T.defined() || !request.batch.reference_T.defined()) {
    const std::string anchor = recomputed ? "logprob_proximal" : "logprob_behaviour";
    return absl::InvalidArgumentError(
        "batch." + (full ? "kl_full: is" : anchor + ": and logprob_reference are") +
        " needed by algorithm.kl.where: " +
        a.kl.where);
  }
  const std::vector<double> kl =
      ToVector(full ? request.batch.full_kl_T
                    : KlEstimate(anchor_T, request.batch.reference_T, a.kl.kind, a.conventions));
  const bool by_token = a.advantage.baseline == "value" || a.kl.where == "token_advantage";
  ForSampled(request, [&](size_t t, size_t i) {
    if (by_token) {
      request.input.token_reward.push_back(-a.kl.coefficient * kl[t]);
    } else {
      request.input.reward[i] -= a.kl.coefficient * kl[t];
    }
  });
  return absl::OkStatus();
}

// Per-sequence values at every token that counts; 0 where masked or dropped.
std::vector<double> Spread(const LossRequest& request, const std::vector<uint8_t>& kept,
                           const std::vector<double>& values) {
  std::vector<double> spread(request.mask.size(), 0.0);
  ForSampled(request, [&](size_t t, size_t i) { spread[t] = kept[i] ? values[i] : 0.0; });
  return spread;
}

// Per-sampled-token values put where their tokens are.
std::vector<double> Scatter(const LossRequest& request, const std::vector<uint8_t>& kept,
                            const std::vector<double>& values) {
  std::vector<double> spread(request.mask.size(), 0.0);
  size_t next = 0;
  ForSampled(request, [&](size_t t, size_t i) {
    const double value = values[next++];
    spread[t] = kept[i] ? value : 0.0;
  });
  return spread;
}

Json ToRagged(const std::vector<double>& values, const std::vector<int64_t>& lengths) {
  Json rows = Json::array();
  auto begin = values.begin();
  for (int64_t length : lengths) {
    rows.push_back(std::vector<double>(begin, begin + length));
    begin += length;
  }
  return rows;
}

Json Metrics(const LossSums& sums, const AdvantageResult& advantages, const AlgorithmConfig& a) {
  const double tokens = std::max(sums.tokens, 1.0);
  Json metrics = {{"tokens", sums.tokens},
                  {"sequences", std::count(advantages.kept.begin(), advantages.kept.end(), 1)},
                  {"groups", advantages.groups},
                  {"zero_variance_groups", advantages.zero_variance_groups},
                  {"truncated_sequences", advantages.truncated_sequences},
                  {"neg_logprob", sums.negative_logprob / tokens}};
  if (a.objective.kind != "nll" && a.objective.kind != "opmd" && a.objective.ratio != "none") {
    metrics["ratio_mean"] = sums.ratio / tokens;
    metrics["ratio_max"] = sums.ratio_max;
    metrics["clip_low"] = sums.clipped_low / tokens;
    metrics["clip_high"] = sums.clipped_high / tokens;
    metrics["anchor_kl"] = sums.anchor_kl / tokens;
  }
  if (a.kl.kind != "none" && a.kl.where == "loss") metrics["kl"] = sums.kl / tokens;
  if (a.auxiliary.value_coefficient != 0) metrics["value_loss"] = sums.value_loss / tokens;
  if (a.entropy.kind != "none") metrics["entropy"] = sums.entropy / tokens;
  if (a.correction.kind != "none") {
    metrics["corrected"] = sums.corrected / tokens;
    metrics["correction_mean"] = sums.correction / tokens;
  }
  return metrics;
}

// The bonus that this batch's own entropy calls for; a run looks at the step before.
Json ControlEntropy(LossRequest& request, const std::vector<double>& weights) {
  EntropyConfig& entropy = request.algorithm.entropy;
  if (entropy.kind != "adaptive" || !request.batch.entropy_T.defined()) return Json();
  const std::vector<double> given = ToVector(request.batch.entropy_T);
  double sum = 0, tokens = 0;
  for (size_t t = 0; t < given.size(); ++t) {
    if (weights[t] > 0) sum += given[t];
    tokens += weights[t] > 0;
  }
  EntropyControl control = EntropyControl::Start(entropy);
  control.last_entropy = sum / std::max(tokens, 1.0);
  const double applied = control.Applied(entropy);
  control.Observe(entropy, control.last_entropy);
  entropy.coefficient = applied;
  return {{"entropy_coefficient", applied}, {"entropy_coefficient_next", control.coefficient}};
}

// Right answers; where the batch does not say which are, those with a reward above 0.
std::vector<uint8_t> Positive(const AdvantageInput& input) {
  if (!input.correct.empty()) return input.correct;
  std::vector<uint8_t> positive;
  for (double reward : input.reward) positive.push_back(reward > 0);
  return positive;
}

// Fills what PolicyLoss wants besides the request's own lists. Returns the advantages as shown.
std::vector<double> FillBatch(LossRequest& request, AdvantageResult& advantages) {
  const AlgorithmConfig& a = request.algorithm;
  TokenBatch& batch = request.batch;
  const auto tensor = [&](const std::vector<double>& values) {
    return ToTensor(values, request.dtype);
  };
  const bool by_token = !advantages.token_advantage.empty();
  const std::vector<double> shown =
      by_token ? Scatter(request, advantages.kept, advantages.token_advantage)
               : Spread(request, advantages.kept, advantages.advantage);
  if (!advantages.value_target.empty())
    batch.value_target_T = tensor(Scatter(request, advantages.kept, advantages.value_target));
  if (a.objective.kind == "nll") KeepPositive(advantages);
  const std::vector<uint8_t>& kept = advantages.kept;
  batch.advantage_T = tensor(shown);
  batch.weight_T = tensor(Spread(
      request, kept,
      TokenWeights(request.input.group, request.input.tokens, kept, a.aggregation, a.conventions)));
  if (a.auxiliary.positive_nll != 0) {
    batch.positive_weight_T = tensor(Spread(
        request, kept, PositiveTokenWeights(Positive(request.input), request.input.tokens, kept)));
  }
  // Dropped sequences are masked as well: their numbers may be anything.
  batch.masked_T = ToTensor(Spread(request, kept, std::vector<double>(request.sequences(), 1.0)),
                            at::kDouble) == 0;
  return shown;
}

absl::StatusOr<Json> Evaluate(LossRequest& request) {
  for (double& reward : request.input.reward) reward *= request.algorithm.advantage.reward_weight;
  RETURN_IF_ERROR(ShapeRewardsByKl(request));
  ASSIGN_OR_RETURN(AdvantageResult advantages, ComputeAdvantages(request.input, request.algorithm));
  const std::vector<double> shown = FillBatch(request, advantages);
  const Json control = ControlEntropy(request, ToVector(request.batch.weight_T));
  const AlgorithmConfig& a = request.algorithm;
  ASSIGN_OR_RETURN(const PolicyLossOutput output, PolicyLoss(request.batch, a));

  const bool learns_values = a.auxiliary.value_coefficient != 0;
  std::vector<Tensor> inputs = {request.batch.logprob_T};
  if (learns_values) inputs.push_back(request.batch.value_T);
  std::vector<Tensor> gradients =
      torch::autograd::grad({output.loss}, inputs, {}, false, false, true);
  const double loss = output.loss.item<double>();
  bool finite = std::isfinite(loss);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(inputs[i]);
    finite = finite && at::isfinite(gradients[i]).all().item<bool>();
  }
  if (!finite) {
    return absl::OutOfRangeError(
        "the loss or its gradient is not finite for this batch in this dtype");
  }
  Json result = {{"loss", loss},
                 {"advantage", ToRagged(shown, request.lengths)},
                 {"grad_logprob", ToRagged(ToVector(gradients[0]), request.lengths)},
                 {"metrics", Metrics(output.sums, advantages, a)}};
  if (learns_values) result["grad_value"] = ToRagged(ToVector(gradients[1]), request.lengths);
  if (!control.is_null()) result["metrics"].update(control);
  return result;
}

}  // namespace

absl::StatusOr<Json> LossTool(const Json& request) {
  absl::StatusOr<Json> result = absl::InternalError("loss was not computed");
  RETURN_IF_ERROR(GuardTorch([&] {
    absl::StatusOr<LossRequest> read = ReadLossRequest(request);
    result = read.ok() ? Evaluate(*read) : absl::StatusOr<Json>(read.status());
  }));
  return result;
}

}  // namespace tramontane
