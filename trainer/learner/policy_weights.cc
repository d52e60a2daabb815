#include "trainer/learner/policy_weights.h"

#include <ATen/ATen.h>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

// The model computes with weights rounded to bfloat16; float32 masters add up what single updates
// are too small to show there (Micikevicius et al., arXiv 1710.03740).
class RoundedWeights final : public TrainedWeights {
 public:
  RoundedWeights(NamedParameters masters, std::vector<at::Tensor> rounded)
      : masters_(std::move(masters)), leaves_(std::move(rounded)) {
    Publish();
  }

  const std::vector<at::Tensor>& leaves() const override { return leaves_; }
  const NamedParameters& masters() const override { return masters_; }
  void Translate(size_t leaf, const at::Tensor& gradient, const TakeGradient& take) const override {
    take(leaf, gradient);  // added to float32 sums
  }
  void Publish() override {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < leaves_.size(); ++i) leaves_[i].copy_(masters_[i].second);
  }

 private:
  const NamedParameters masters_;
  const std::vector<at::Tensor> leaves_;
};

absl::StatusOr<PolicyWeights> InBfloat16(const std::shared_ptr<Transformer>& model) {
  if (!__builtin_cpu_supports("avx512bf16")) {
    return absl::FailedPreconditionError(
        "trainer.dtype: this processor has no bfloat16 arithmetic (AVX512_BF16); float32 is "
        "faster on it");
  }
  PolicyWeights policy;
  RETURN_IF_ERROR(GuardTorch([&] {
    policy.compute = std::make_shared<Transformer>(
        model->config(), model->parameters().front().device(), at::kBFloat16);
    policy.trained =
        std::make_unique<RoundedWeights>(NamesOf(*model), policy.compute->parameters());
  }));
  return policy;
}

}  // namespace

NamedParameters NamesOf(const Transformer& model) {
  NamedParameters parameters;
  for (const auto& item : model.named_parameters())
    parameters.emplace_back(item.key(), item.value());
  return parameters;
}

absl::StatusOr<PolicyWeights> MakePolicyWeights(const RunConfig& config,
                                                const std::shared_ptr<Transformer>& model) {
  if (config.trainer.dtype == "bfloat16") return InBfloat16(model);
  PolicyWeights policy{.compute = model};
  if (config.lora.rank == 0) {
    policy.trained = std::make_unique<WholeWeights>(NamesOf(*model));
    return policy;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<LoraWeights> lora,
                   LoraWeights::Create(*model, config.lora, config.run.seed));
  policy.lora = lora.get();
  policy.trained = std::move(lora);
  return policy;
}

}  // namespace tramontane
