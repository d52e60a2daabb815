#include "trainer/learner/reference_model.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "common/files.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "model/transformer.h"

namespace tramontane {

bool NeedsReferenceModel(const AlgorithmConfig& algorithm) {
  return algorithm.kl.kind != "none" && algorithm.kl.reference != "iterate";
}

ReferenceModel::ReferenceModel(const Transformer& policy) : model_(policy.Clone()) {}

void ReferenceModel::CopyFrom(const Transformer& policy) { model_->CopyFrom(policy); }

absl::Status ReferenceModel::Save(const std::string& dir) const {
  const std::string folder = dir + "/reference";
  RETURN_IF_ERROR(MakeDirs(folder));
  return SaveTransformer(*model_, folder, folder);
}

absl::Status ReferenceModel::Load(const std::string& dir) {
  const std::string folder = dir + "/reference";
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) {
    return absl::NotFoundError(
        folder +
        ": the checkpoint was made without a reference; algorithm.kl cannot be "
        "switched on when a run is resumed");
  }
  const at::Tensor first = model_->parameters().front();
  std::shared_ptr<Transformer> loaded;
  ASSIGN_OR_RETURN(loaded, LoadTransformer(folder, first.device(), first.scalar_type()));
  const auto expected = model_->NamedWeights(), got = loaded->NamedWeights();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (i < got.size() && expected[i].second.sizes() == got[i].second.sizes()) continue;
    return absl::InvalidArgumentError(folder + ": is another model than the one trained, at " +
                                      expected[i].first);
  }
  model_ = std::move(loaded);
  return absl::OkStatus();
}

int64_t ReferenceModel::bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, weight] : model_->NamedWeights())
    bytes += static_cast<int64_t>(weight.nbytes());
  return bytes;
}

}  // namespace tramontane
