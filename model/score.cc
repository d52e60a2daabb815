#include "model/score.h"

#include <torch/types.h>

#include <cmath>

#include "common/status.h"
#include "model/checkpoint.h"
#include "model/ops/logprob.h"
#include "model/packed_attention.h"
#include "model/score_tool.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

at::Tensor HiddenOf(Transformer& model, const std::vector<int32_t>& tokens) {
  const int64_t length = static_cast<int64_t>(tokens.size());
  at::Tensor ids = at::empty({length}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.mutable_data_ptr<int64_t>());
  const auto device = model.lm_head_weight().device();
  PackedAttention attention({0, length});
  return model.Forward(ids.to(device), at::arange(length, at::kLong).to(device), attention);
}

// [length - 1], in float32 or the model's float64.
at::Tensor LogprobsOf(Transformer& model, const at::Tensor& hidden,
                      const std::vector<int32_t>& tokens) {
  const int64_t scored = static_cast<int64_t>(tokens.size()) - 1;
  at::Tensor targets = at::empty({scored}, at::kLong);
  std::copy(tokens.begin() + 1, tokens.end(), targets.mutable_data_ptr<int64_t>());
  return ChunkedLogprob(hidden.narrow(0, 0, scored), model.lm_head_weight(),
                        targets.to(hidden.device()), 1.0,
                        /*want_entropy=*/false)
      .logprob.to(at::kCPU);
}

// A non-finite log-probability has no JSON number: null.
Json Number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

Json Row(const at::Tensor& logprobs) {
  const at::Tensor wide = logprobs.to(at::kDouble);
  Json row = Json::array();
  for (int64_t t = 0; t < wide.numel(); ++t)
    row.push_back(Number(wide.const_data_ptr<double>()[t]));
  return row;
}

Json TopRow(Transformer& model, const at::Tensor& hidden, int top_k) {
  const int64_t k = std::min<int64_t>(top_k, model.config().vocab_size);
  const auto top = model.Logits(hidden).to(at::kCPU).log_softmax(1).topk(k, 1);
  const at::Tensor values = std::get<0>(top).to(at::kDouble).contiguous();
  const at::Tensor ids = std::get<1>(top).contiguous();
  Json row = Json::array();
  for (int64_t t = 0; t < values.size(0); ++t) {
    Json best = Json::array();
    for (int64_t i = 0; i < k; ++i) {
      best.push_back(Json::array({ids.const_data_ptr<int64_t>()[t * k + i],
                                  Number(values.const_data_ptr<double>()[t * k + i])}));
    }
    row.push_back(std::move(best));
  }
  return row;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> TokensOf(const Json& in, int64_t vocab_size) {
  const absl::Status bad = absl::InvalidArgumentError(
      "tokens: must be a list of lists of token ids below " + std::to_string(vocab_size));
  if (!in.is_object() || !in.contains("tokens") || !in["tokens"].is_array()) return bad;
  std::vector<std::vector<int32_t>> rows;
  for (const Json& row : in["tokens"]) {
    if (!row.is_array()) return bad;
    std::vector<int32_t> ids;
    for (const Json& id : row) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocab_size)
        return bad;
      ids.push_back(id.get<int32_t>());
    }
    rows.push_back(std::move(ids));
  }
  return rows;
}

absl::StatusOr<at::ScalarType> DtypeOf(const std::string& dtype) {
  if (dtype == "float32") return at::kFloat;
  if (dtype == "float64") return at::kDouble;
  if (dtype == "bfloat16") return at::kBFloat16;
  return absl::InvalidArgumentError("dtype: must be float32, float64 or bfloat16, not '" + dtype +
                                    "'");
}

}  // namespace

std::vector<float> ScoreTokens(Transformer& model, const std::vector<int32_t>& tokens) {
  if (tokens.size() < 2) return {};
  at::NoGradGuard no_grad;
  const at::Tensor logprobs =
      LogprobsOf(model, HiddenOf(model, tokens), tokens).to(at::kFloat).contiguous();
  const float* data = logprobs.const_data_ptr<float>();
  return std::vector<float>(data, data + logprobs.numel());
}

absl::StatusOr<Json> ScoreTool(const std::string& model_dir, const Json& in, int top_k,
                               const std::string& dtype) {
  ASSIGN_OR_RETURN(const at::ScalarType type, DtypeOf(dtype));
  if (top_k < 0) return absl::InvalidArgumentError("top: must not be negative");
  ASSIGN_OR_RETURN(const std::shared_ptr<Transformer> model,
                   LoadTransformer(model_dir, at::kCPU, type));
  ASSIGN_OR_RETURN(const auto rows, TokensOf(in, model->config().vocab_size));
  Json out = {{"logprobs", Json::array()}};
  if (top_k > 0) out["top"] = Json::array();
  try {
    at::NoGradGuard no_grad;
    for (const std::vector<int32_t>& tokens : rows) {
      if (tokens.empty()) {
        out["logprobs"].push_back(Json::array());
        if (top_k > 0) out["top"].push_back(Json::array());
        continue;
      }
      const at::Tensor hidden = HiddenOf(*model, tokens);
      out["logprobs"].push_back(tokens.size() < 2 ? Json::array()
                                                  : Row(LogprobsOf(*model, hidden, tokens)));
      if (top_k > 0) out["top"].push_back(TopRow(*model, hidden, top_k));
    }
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("score: ") + error.what());
  }
  return out;
}

}  // namespace tramontane
