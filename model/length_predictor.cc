#include "model/length_predictor.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/safetensors.h"

namespace tramontane {
namespace {

constexpr char kPredictorFile[] = "/length_predictor.safetensors";
constexpr char kVersionKey[] = "length_predictor";
constexpr char kFileVersion[] = "1";

// As coded by the method's authors.
constexpr double kLeastRate = 10, kLeastShape = 1, kLeastLength = 0.9;

constexpr double kFirstShape = 8, kFirstRate = 2;

double InverseSoftplus(double y) { return y + std::log(-std::expm1(-y)); }

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

absl::Status FillTensor(const SafetensorsFile& file, const std::string& name, at::Tensor tensor) {
  const auto found = file.header().tensors.find(name);
  if (found == file.header().tensors.end())
    return absl::InvalidArgumentError("holds no tensor " + name);
  const SafetensorsEntry& entry = found->second;
  if (entry.dtype != "F32" || entry.shape != tensor.sizes().vec()) {
    return absl::InvalidArgumentError(name + " is " + entry.dtype + " " + ShapeText(entry.shape) +
                                      ", and this model needs F32 " +
                                      ShapeText(tensor.sizes().vec()));
  }
  std::memcpy(tensor.mutable_data_ptr<float>(), file.Data(entry), tensor.nbytes());
  if (!tensor.isfinite().all().item<bool>())
    return absl::InvalidArgumentError(name + " holds values that are not finite");
  return absl::OkStatus();
}

absl::Status Fill(const SafetensorsFile& file, const LengthPredictor& predictor) {
  const auto version = file.header().metadata.find(kVersionKey);
  if (version == file.header().metadata.end() || version->second != kFileVersion) {
    return absl::InvalidArgumentError(version == file.header().metadata.end()
                                          ? "does not say that it is a length predictor"
                                          : "is a length predictor of version " + version->second +
                                                ", not " + kFileVersion);
  }
  for (const auto& [name, tensor] : predictor.Names())
    RETURN_IF_ERROR(FillTensor(file, name, tensor));
  return absl::OkStatus();
}

}  // namespace

LengthPredictor::LengthPredictor(const ModelConfig& config)
    : shape_VD_(at::zeros({config.vocab_size, config.hidden_size}, at::kFloat)),
      shape_bias_V_(at::full({config.vocab_size}, InverseSoftplus(kFirstShape), at::kFloat)),
      rate_VD_(at::zeros({config.vocab_size, config.hidden_size}, at::kFloat)),
      rate_bias_V_(at::full({config.vocab_size}, InverseSoftplus(kFirstRate), at::kFloat)) {}

LengthGammas LengthPredictor::All(const at::Tensor& hidden_RD) const {
  const at::Tensor x_RD = hidden_RD.to(at::kFloat);
  return {at::softplus(at::linear(x_RD, shape_VD_, shape_bias_V_)),
          at::softplus(at::linear(x_RD, rate_VD_, rate_bias_V_))};
}

LengthGammas LengthPredictor::Of(const at::Tensor& hidden_RD, const at::Tensor& tokens_R) const {
  const at::Tensor x_RD = hidden_RD.to(at::kFloat);
  const auto head = [&](const at::Tensor& weight_VD, const at::Tensor& bias_V) {
    return at::softplus((weight_VD.index_select(0, tokens_R) * x_RD).sum(-1) +
                        bias_V.index_select(0, tokens_R));
  };
  return {head(shape_VD_, shape_bias_V_), head(rate_VD_, rate_bias_V_)};
}

std::vector<std::pair<std::string, at::Tensor>> LengthPredictor::Names() const {
  return {{"shape_head.weight", shape_VD_},
          {"shape_head.bias", shape_bias_V_},
          {"rate_head.weight", rate_VD_},
          {"rate_head.bias", rate_bias_V_}};
}

absl::Status LengthPredictor::Save(const std::string& dir) const {
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, tensor] : Names())
    tensors.push_back(
        {name, "F32", tensor.sizes().vec(), tensor.const_data_ptr(), tensor.nbytes()});
  return WriteSafetensors(dir + kPredictorFile, tensors, {{kVersionKey, kFileVersion}});
}

absl::StatusOr<std::shared_ptr<LengthPredictor>> LengthPredictor::Load(const std::string& dir,
                                                                       const ModelConfig& config) {
  const std::string path = dir + kPredictorFile;
  ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(path));
  std::shared_ptr<LengthPredictor> predictor;
  absl::Status filled;
  RETURN_IF_ERROR(GuardTorch([&] {
    predictor = std::make_shared<LengthPredictor>(config);
    filled = Fill(*file, *predictor);
  }));
  RETURN_IF_ERROR(Annotate(filled, path));
  return predictor;
}

at::Tensor LengthNll(const LengthGammas& gammas, const at::Tensor& lengths) {
  const at::Tensor x = lengths.to(gammas.shape.scalar_type()).log1p();
  return gammas.shape.lgamma() - gammas.shape * gammas.rate.log() - (gammas.shape - 1) * x.log() +
         gammas.rate * x;
}

at::Tensor SureOfLength(const LengthGammas& gammas) {
  const at::Tensor length_at_mode = ((gammas.shape - 1) / gammas.rate).expm1();
  return gammas.rate.ge(kLeastRate)
      .logical_and_(gammas.shape.gt(kLeastShape))
      .logical_and_(length_at_mode.ge(kLeastLength));
}

at::Tensor BudgetWeights(const LengthGammas& gammas, double remaining) {
  const at::Tensor below = at::special_gammainc(gammas.shape, gammas.rate * std::log1p(remaining));
  return at::where(SureOfLength(gammas), below.clamp(0, 1), at::zeros_like(below));
}

}  // namespace tramontane
