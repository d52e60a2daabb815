#include "trainer/learner/loss_tool.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/algorithm_support.h"
#include "trainer/learner/policy_loss.h"

namespace tramontane {
namespace {

using at::Tensor;

const std::set<std::string> kTokenKeys = {"logprob", "logprob_proximal", "logprob_behaviour", "logprob_reference",
                                          "value",   "value_old",        "entropy",           "mask"};
const std::set<std::string> kSequenceKeys = {"group", "reward", "truncated", "correct"};

absl::Status Bad(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError("batch." + where + ": " + what);
}

// The ragged batch, checked: one row length per sequence, taken from logprob.
struct Ragged {
  std::vector<int64_t> lengths;
  int64_t tokens = 0;

  size_t sequences() const { return lengths.size(); }
};

absl::StatusOr<std::vector<double>> NumberList(const Json& list, const std::string& where) {
  if (!list.is_array()) return Bad(where, "must be a list of numbers");
  std::vector<double> numbers;
  for (const Json& entry : list) {
    if (entry.is_boolean()) {
      numbers.push_back(entry.get<bool>());
    } else if (entry.is_number()) {
      numbers.push_back(entry.get<double>());
    } else {
      return Bad(where, "must hold numbers, has " + entry.dump());
    }
  }
  return numbers;
}

absl::StatusOr<Ragged> ReadShape(const Json& batch) {
  if (!batch.contains("logprob") || !batch["logprob"].is_array()) return Bad("logprob", "must be a list of lists");
  Ragged ragged;
  for (const Json& row : batch["logprob"]) {
    if (!row.is_array()) return Bad("logprob", "must be a list of lists");
    ragged.lengths.push_back(static_cast<int64_t>(row.size()));
    ragged.tokens += ragged.lengths.back();
  }
  return ragged;
}

// All tokens of `key` in a row; empty when absent or null.
absl::StatusOr<std::vector<double>> TokenValues(const Json& batch, const std::string& key, const Ragged& ragged) {
  std::vector<double> values;
  if (!batch.contains(key) || batch[key].is_null()) return values;
  const Json& rows = batch[key];
  if (!rows.is_array() || rows.size() != ragged.sequences()) {
    return Bad(key, "must hold one list for each of the " + std::to_string(ragged.sequences()) + " sequences");
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string where = key + "[" + std::to_string(i) + "]";
    ASSIGN_OR_RETURN(const std::vector<double> row, NumberList(rows[i], where));
    if (static_cast<int64_t>(row.size()) != ragged.lengths[i]) {
      return Bad(where, "has " + std::to_string(row.size()) + " entries, logprob has " +
                            std::to_string(ragged.lengths[i]));
    }
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

absl::StatusOr<std::vector<double>> SequenceValues(const Json& batch, const std::string& key, const Ragged& ragged,
                                                   bool required) {
  std::vector<double> values;
  if (!batch.contains(key) || batch[key].is_null()) {
    if (required) return Bad(key, "is needed");
    return values;
  }
  ASSIGN_OR_RETURN(values, NumberList(batch[key], key));
  if (values.size() != ragged.sequences()) {
    return Bad(key, "has " + std::to_string(values.size()) + " entries for " + std::to_string(ragged.sequences()) +
                        " sequences");
  }
  return values;
}

absl::Status CheckKeys(const Json& request) {
  if (!request.is_object()) return absl::InvalidArgumentError("request: must be an object");
  for (const auto& [key, value] : request.items()) {
    if (key != "algorithm" && key != "batch" && key != "dtype") {
      return absl::InvalidArgumentError("request." + key + ": unknown key");
    }
  }
  if (!request.contains("batch") || !request["batch"].is_object()) {
    return absl::InvalidArgumentError("batch: must be an object");
  }
  for (const auto& [key, value] : request["batch"].items()) {
    if (!kTokenKeys.contains(key) && !kSequenceKeys.contains(key)) return Bad(key, "unknown key");
  }
  return absl::OkStatus();
}

absl::StatusOr<at::ScalarType> ReadDtype(const Json& request) {
  const Json dtype = request.value("dtype", Json("float32"));
  if (dtype == "float32") return at::kFloat;
  if (dtype == "float64") return at::kDouble;
  return absl::InvalidArgumentError("dtype: must be float32 or float64, is " + dtype.dump());
}

Tensor ToTensor(const std::vector<double>& values, at::ScalarType dtype) {
  Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), tensor.data_ptr<double>());
  return tensor.to(dtype);
}

// Everything read from the request; token vectors are back to back.
struct Problem {
  AlgorithmConfig algorithm;
  at::ScalarType dtype = at::kFloat;
  Ragged shape;
  AdvantageInput input;
  std::vector<double> mask;
  TokenBatch batch;
};

absl::Status ReadTokens(const Json& batch, Problem& problem) {
  ASSIGN_OR_RETURN(problem.mask, TokenValues(batch, "mask", problem.shape));
  if (problem.mask.empty()) problem.mask.assign(static_cast<size_t>(problem.shape.tokens), 1.0);
  if (std::any_of(problem.mask.begin(), problem.mask.end(), [](double m) { return m != 0 && m != 1; })) {
    return Bad("mask", "must hold 0 and 1");
  }
  const auto read = [&](const char* key, Tensor& tensor) -> absl::Status {
    if (!batch.contains(key) || batch[key].is_null()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<double> values, TokenValues(batch, key, problem.shape));
    tensor = ToTensor(values, problem.dtype);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read("logprob", problem.batch.logprob_T));
  RETURN_IF_ERROR(read("logprob_proximal", problem.batch.proximal_T));
  RETURN_IF_ERROR(read("logprob_behaviour", problem.batch.behaviour_T));
  RETURN_IF_ERROR(read("logprob_reference", problem.batch.reference_T));
  RETURN_IF_ERROR(read("entropy", problem.batch.entropy_T));
  problem.batch.logprob_T.set_requires_grad(true);
  return absl::OkStatus();
}

absl::Status ReadSequences(const Json& batch, Problem& problem) {
  const Ragged& shape = problem.shape;
  ASSIGN_OR_RETURN(const std::vector<double> group, SequenceValues(batch, "group", shape, true));
  ASSIGN_OR_RETURN(problem.input.reward, SequenceValues(batch, "reward", shape, true));
  ASSIGN_OR_RETURN(const std::vector<double> truncated, SequenceValues(batch, "truncated", shape, false));
  ASSIGN_OR_RETURN(const std::vector<double> correct, SequenceValues(batch, "correct", shape, false));
  problem.input.group.assign(group.begin(), group.end());
  problem.input.truncated.assign(truncated.begin(), truncated.end());
  problem.input.correct.assign(correct.begin(), correct.end());
  size_t t = 0;
  std::vector<int64_t> sequence;
  for (size_t i = 0; i < shape.sequences(); ++i) {
    double sampled = 0;
    for (int64_t n = 0; n < shape.lengths[i]; ++n) {
      sampled += problem.mask[t++];
      sequence.push_back(static_cast<int64_t>(i));
    }
    problem.input.tokens.push_back(static_cast<int64_t>(sampled));
  }
  problem.batch.sequence_T = at::empty({shape.tokens}, at::kLong);
  std::copy(sequence.begin(), sequence.end(), problem.batch.sequence_T.data_ptr<int64_t>());
  problem.batch.sequences = static_cast<int64_t>(shape.sequences());
  return absl::OkStatus();
}

absl::StatusOr<Problem> ReadProblem(const Json& request) {
  RETURN_IF_ERROR(CheckKeys(request));
  Problem problem;
  ASSIGN_OR_RETURN(problem.algorithm, AlgorithmFromJson(request.value("algorithm", Json::object())));
  RETURN_IF_ERROR(ValidateAlgorithm(problem.algorithm));
  RETURN_IF_ERROR(CheckSupported(problem.algorithm));
  ASSIGN_OR_RETURN(problem.dtype, ReadDtype(request));
  const Json& batch = request["batch"];
  ASSIGN_OR_RETURN(problem.shape, ReadShape(batch));
  RETURN_IF_ERROR(ReadTokens(batch, problem));
  RETURN_IF_ERROR(ReadSequences(batch, problem));
  return problem;
}

// kl.where reward: r_i −= β · Σ_t k_t, with the anchor's log-probabilities (a constant).
absl::Status ShapeRewardsByKl(Problem& problem) {
  const AlgorithmConfig& a = problem.algorithm;
  if (a.kl.kind == "none" || a.kl.where != "reward") return absl::OkStatus();
  const bool recomputed = a.correction.anchor == "recomputed";
  const Tensor& anchor_T = recomputed ? problem.batch.proximal_T : problem.batch.behaviour_T;
  if (!anchor_T.defined() || !problem.batch.reference_T.defined()) {
    return Bad(recomputed ? "logprob_proximal" : "logprob_behaviour",
               "and logprob_reference are needed by algorithm.kl.where: reward");
  }
  const Tensor kl_T =
      KlEstimate(anchor_T, problem.batch.reference_T, a.kl.kind, a.conventions).to(at::kDouble).contiguous();
  const double* kl = kl_T.data_ptr<double>();
  const int64_t* sequence = problem.batch.sequence_T.data_ptr<int64_t>();
  for (size_t t = 0; t < problem.mask.size(); ++t) {
    if (problem.mask[t] != 0) problem.input.reward[static_cast<size_t>(sequence[t])] -= a.kl.coefficient * kl[t];
  }
  return absl::OkStatus();
}

// Per-sequence values at every token that counts; 0 where masked or dropped.
std::vector<double> Spread(const Problem& problem, const std::vector<uint8_t>& kept,
                           const std::vector<double>& values) {
  std::vector<double> spread;
  size_t t = 0;
  for (size_t i = 0; i < problem.shape.sequences(); ++i) {
    for (int64_t n = 0; n < problem.shape.lengths[i]; ++n, ++t) {
      spread.push_back(kept[i] && problem.mask[t] != 0 ? values[i] : 0.0);
    }
  }
  return spread;
}

Json ToRagged(const double* values, const Ragged& shape) {
  Json rows = Json::array();
  for (int64_t length : shape.lengths) {
    rows.push_back(std::vector<double>(values, values + length));
    values += length;
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
  if (a.objective.kind != "nll" && a.objective.ratio != "none") {
    metrics["ratio_mean"] = sums.ratio / tokens;
    metrics["ratio_max"] = sums.ratio_max;
    metrics["clip_low"] = sums.clipped_low / tokens;
    metrics["clip_high"] = sums.clipped_high / tokens;
    metrics["anchor_kl"] = sums.anchor_kl / tokens;
  }
  if (a.kl.kind != "none" && a.kl.where == "loss") metrics["kl"] = sums.kl / tokens;
  if (a.entropy.kind != "none") metrics["entropy"] = sums.entropy / tokens;
  if (a.correction.kind != "none") {
    metrics["corrected"] = sums.corrected / tokens;
    metrics["correction_mean"] = sums.correction / tokens;
  }
  return metrics;
}

absl::StatusOr<Json> Evaluate(Problem& problem) {
  const AlgorithmConfig& a = problem.algorithm;
  RETURN_IF_ERROR(ShapeRewardsByKl(problem));
  ASSIGN_OR_RETURN(AdvantageResult advantages,
                   ComputeAdvantages(problem.input, a.advantage, a.conventions, a.filter));
  const std::vector<double> shown = Spread(problem, advantages.kept, advantages.advantage);
  if (a.objective.kind == "nll") KeepPositive(advantages);

  const std::vector<uint8_t>& kept = advantages.kept;
  const std::vector<double> weights =
      TokenWeights(problem.input.group, problem.input.tokens, kept, a.aggregation, a.conventions);
  problem.batch.advantage_T = ToTensor(shown, problem.dtype);
  problem.batch.weight_T = ToTensor(Spread(problem, kept, weights), problem.dtype);
  if (a.auxiliary.positive_nll != 0) {
    problem.batch.positive_weight_T = ToTensor(
        Spread(problem, kept, PositiveTokenWeights(problem.input.reward, problem.input.tokens, kept)), problem.dtype);
  }
  // Dropped sequences are masked as well: their numbers may be anything.
  problem.batch.masked_T =
      ToTensor(Spread(problem, kept, std::vector<double>(problem.shape.sequences(), 1.0)), at::kDouble) == 0;
  ASSIGN_OR_RETURN(const PolicyLossOutput output, PolicyLoss(problem.batch, a));

  Tensor gradient_T = torch::autograd::grad({output.loss}, {problem.batch.logprob_T}, {}, false, false, true)[0];
  if (!gradient_T.defined()) gradient_T = at::zeros_like(problem.batch.logprob_T);
  gradient_T = gradient_T.to(at::kDouble).contiguous();
  const double loss = output.loss.item<double>();
  if (!std::isfinite(loss) || !at::isfinite(gradient_T).all().item<bool>()) {
    return absl::OutOfRangeError("the loss or its gradient is not finite for this batch in this dtype");
  }
  return Json{{"loss", loss},
              {"advantage", ToRagged(shown.data(), problem.shape)},
              {"grad_logprob", ToRagged(gradient_T.data_ptr<double>(), problem.shape)},
              {"metrics", Metrics(output.sums, advantages, a)}};
}

}  // namespace

absl::StatusOr<Json> LossTool(const Json& request) {
  absl::StatusOr<Json> result = absl::InternalError("loss was not computed");
  RETURN_IF_ERROR(GuardTorch([&] {
    absl::StatusOr<Problem> problem = ReadProblem(request);
    result = problem.ok() ? Evaluate(*problem) : absl::StatusOr<Json>(problem.status());
  }));
  return result;
}

}  // namespace tramontane
