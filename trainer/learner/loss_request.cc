#include "trainer/learner/loss_request.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

using at::Tensor;

const std::set<std::string> kTokenKeys = {
    "logprob", "logprob_proximal", "logprob_behaviour", "logprob_reference",
    "value",   "value_old",        "entropy",           "mask",
    "kl_full"};
const std::set<std::string> kSequenceKeys = {"group", "reward", "truncated", "correct"};

absl::Status Bad(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError("batch." + where + ": " + what);
}

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

// One row length per sequence, taken from logprob.
absl::StatusOr<std::vector<int64_t>> ReadLengths(const Json& batch) {
  if (!batch.contains("logprob") || !batch["logprob"].is_array())
    return Bad("logprob", "must be a list of lists");
  std::vector<int64_t> lengths;
  for (const Json& row : batch["logprob"]) {
    if (!row.is_array()) return Bad("logprob", "must be a list of lists");
    lengths.push_back(static_cast<int64_t>(row.size()));
  }
  return lengths;
}

// All tokens of `key` in a row; empty when absent or null.
absl::StatusOr<std::vector<double>> TokenValues(const Json& batch, const std::string& key,
                                                const std::vector<int64_t>& lengths) {
  std::vector<double> values;
  if (!batch.contains(key) || batch[key].is_null()) return values;
  const Json& rows = batch[key];
  if (!rows.is_array() || rows.size() != lengths.size()) {
    return Bad(
        key, "must hold one list for each of the " + std::to_string(lengths.size()) + " sequences");
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string where = key + "[" + std::to_string(i) + "]";
    ASSIGN_OR_RETURN(const std::vector<double> row, NumberList(rows[i], where));
    if (static_cast<int64_t>(row.size()) != lengths[i]) {
      return Bad(where, "has " + std::to_string(row.size()) + " entries, logprob has " +
                            std::to_string(lengths[i]));
    }
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

absl::StatusOr<std::vector<double>> SequenceValues(const Json& batch, const std::string& key,
                                                   const std::vector<int64_t>& lengths,
                                                   bool required) {
  std::vector<double> values;
  if (!batch.contains(key) || batch[key].is_null()) {
    if (required) return Bad(key, "is needed");
    return values;
  }
  ASSIGN_OR_RETURN(values, NumberList(batch[key], key));
  if (values.size() != lengths.size()) {
    return Bad(key, "has " + std::to_string(values.size()) + " entries for " +
                        std::to_string(lengths.size()) + " sequences");
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

absl::Status ReadTokens(const Json& batch, LossRequest& request) {
  const auto tokens = static_cast<size_t>(
      std::accumulate(request.lengths.begin(), request.lengths.end(), int64_t{0}));
  ASSIGN_OR_RETURN(request.mask, TokenValues(batch, "mask", request.lengths));
  if (request.mask.empty()) request.mask.assign(tokens, 1.0);
  if (std::any_of(request.mask.begin(), request.mask.end(),
                  [](double m) { return m != 0 && m != 1; })) {
    return Bad("mask", "must hold 0 and 1");
  }
  const std::pair<const char*, Tensor*> lists[] = {
      {"logprob", &request.batch.logprob_T},
      {"logprob_proximal", &request.batch.proximal_T},
      {"logprob_behaviour", &request.batch.behaviour_T},
      {"logprob_reference", &request.batch.reference_T},
      {"kl_full", &request.batch.full_kl_T},
      {"entropy", &request.batch.entropy_T},
      {"value", &request.batch.value_T},
      {"value_old", &request.batch.value_old_T}};
  for (const auto& [key, tensor] : lists) {
    if (!batch.contains(key) || batch[key].is_null()) continue;
    ASSIGN_OR_RETURN(const std::vector<double> values, TokenValues(batch, key, request.lengths));
    *tensor = ToTensor(values, request.dtype);
  }
  request.batch.logprob_T.set_requires_grad(true);
  if (request.batch.value_T.defined()) request.batch.value_T.set_requires_grad(true);
  // As in a run: the iterate is the policy that sampled the batch, unless the batch says otherwise.
  if (request.algorithm.kl.reference == "iterate" && !request.batch.reference_T.defined()) {
    request.batch.reference_T = request.batch.behaviour_T;
  }
  return absl::OkStatus();
}

absl::Status ReadSequences(const Json& batch, LossRequest& request) {
  const std::vector<int64_t>& lengths = request.lengths;
  ASSIGN_OR_RETURN(const std::vector<double> group, SequenceValues(batch, "group", lengths, true));
  ASSIGN_OR_RETURN(request.input.reward, SequenceValues(batch, "reward", lengths, true));
  ASSIGN_OR_RETURN(const std::vector<double> truncated,
                   SequenceValues(batch, "truncated", lengths, false));
  ASSIGN_OR_RETURN(const std::vector<double> correct,
                   SequenceValues(batch, "correct", lengths, false));
  request.input.group.assign(group.begin(), group.end());
  request.input.truncated.assign(truncated.begin(), truncated.end());
  request.input.correct.assign(correct.begin(), correct.end());
  size_t t = 0;
  std::vector<int64_t> sequence;
  for (size_t i = 0; i < lengths.size(); ++i) {
    double sampled = 0;
    for (int64_t n = 0; n < lengths[i]; ++n) {
      sampled += request.mask[t++];
      sequence.push_back(static_cast<int64_t>(i));
    }
    request.input.tokens.push_back(static_cast<int64_t>(sampled));
  }
  request.batch.sequence_T = at::empty({static_cast<int64_t>(sequence.size())}, at::kLong);
  std::copy(sequence.begin(), sequence.end(), request.batch.sequence_T.data_ptr<int64_t>());
  request.batch.sequences = static_cast<int64_t>(lengths.size());
  return absl::OkStatus();
}

// Baseline value estimates from the values that sampling saw; masked tokens have none.
absl::Status ReadValues(LossRequest& request) {
  if (request.algorithm.advantage.baseline != "value") return absl::OkStatus();
  const Tensor& given_T =
      request.batch.value_old_T.defined() ? request.batch.value_old_T : request.batch.value_T;
  if (!given_T.defined()) return Bad("value", "is needed by algorithm.advantage.baseline: value");
  const std::vector<double> given = ToVector(given_T);
  for (size_t t = 0; t < given.size(); ++t) {
    if (request.mask[t] != 0) request.input.value.push_back(given[t]);
  }
  return absl::OkStatus();
}

}  // namespace

Tensor ToTensor(const std::vector<double>& values, at::ScalarType dtype) {
  Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), tensor.data_ptr<double>());
  return tensor.to(dtype);
}

std::vector<double> ToVector(const Tensor& values) {
  const Tensor wide = values.detach().to(at::kDouble).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

absl::StatusOr<LossRequest> ReadLossRequest(const Json& json) {
  RETURN_IF_ERROR(CheckKeys(json));
  LossRequest request;
  ASSIGN_OR_RETURN(request.algorithm, AlgorithmFromJson(json.value("algorithm", Json::object())));
  RETURN_IF_ERROR(ValidateAlgorithm(request.algorithm));
  ASSIGN_OR_RETURN(request.dtype, ReadDtype(json));
  const Json& batch = json["batch"];
  ASSIGN_OR_RETURN(request.lengths, ReadLengths(batch));
  RETURN_IF_ERROR(ReadTokens(batch, request));
  RETURN_IF_ERROR(ReadSequences(batch, request));
  RETURN_IF_ERROR(ReadValues(request));
  return request;
}

}  // namespace tramontane
