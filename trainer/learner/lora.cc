#include "trainer/learner/lora.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "common/files.h"
#include "common/rollout.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/safetensors.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

const char* const kConfigFile = "/adapter_config.json";
const char* const kWeightsFile = "/adapter_model.safetensors";
const std::string kPeftPrefix = "base_model.model.";
const std::string kWeightSuffix = ".weight";

// model.layers.3.mlp.up_proj.weight → model.layers.3.mlp.up_proj; empty: no module's weight.
std::string ModuleOf(const std::string& name) {
  if (!name.ends_with(kWeightSuffix)) return "";
  return name.substr(0, name.size() - kWeightSuffix.size());
}

std::string LastPart(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// float32 files, whatever the adapters are computed in.
at::Tensor AsFloat(const at::Tensor& tensor) { return tensor.detach().to(at::kFloat).contiguous(); }

}  // namespace

absl::StatusOr<std::unique_ptr<LoraWeights>> LoraWeights::Create(const Transformer& model,
                                                                 const LoraSection& section,
                                                                 uint64_t seed) {
  std::unique_ptr<LoraWeights> lora(new LoraWeights(section));
  std::set<std::string> wanted(section.target_modules.begin(), section.target_modules.end());
  std::set<std::string> missing = wanted;
  RETURN_IF_ERROR(GuardTorch([&] {
    const at::NoGradGuard no_grad;
    at::Generator generator = at::detail::createCPUGenerator(seed);
    for (const auto& item : model.named_parameters()) {
      const at::Tensor& leaf = item.value();
      const std::string module = ModuleOf(item.key());
      lora->leaves_.push_back(leaf);
      lora->target_of_.push_back(-1);
      if (leaf.dim() != 2 || !wanted.contains(LastPart(module))) continue;
      missing.erase(LastPart(module));
      lora->target_of_.back() = static_cast<int>(lora->targets_.size());
      lora->targets_.push_back(
          {module, lora->leaves_.size() - 1, leaf.detach().clone(), lora->masters_.size()});
      const auto in = leaf.size(1), out = leaf.size(0);
      const double bound = 1 / std::sqrt(static_cast<double>(in));
      // Drawn in float64, so that a seed means the same in every dtype.
      at::Tensor a = at::empty({section.rank, in}, at::kDouble).uniform_(-bound, bound, generator);
      lora->masters_.emplace_back(module + ".lora_A.weight", a.to(leaf.scalar_type()));
      lora->masters_.emplace_back(
          module + ".lora_B.weight",
          at::zeros({out, section.rank}, leaf.options().requires_grad(false)));
    }
  }));
  if (!missing.empty()) {
    return absl::InvalidArgumentError("lora.target_modules: the model has no module " +
                                      *missing.begin());
  }
  return lora;
}

void LoraWeights::Translate(size_t leaf, const at::Tensor& gradient,
                            const TakeGradient& take) const {
  if (target_of_[leaf] < 0) return;
  const Target& target = targets_[static_cast<size_t>(target_of_[leaf])];
  take(target.first_master, at::mm(B(target).t(), gradient).mul_(scale_));
  take(target.first_master + 1, at::mm(gradient, A(target).t()).mul_(scale_));
}

void LoraWeights::Publish() {
  const at::NoGradGuard no_grad;
  for (const Target& target : targets_) {
    leaves_[target.leaf].copy_(target.base);
    leaves_[target.leaf].addmm_(B(target), A(target), /*beta=*/1, /*alpha=*/scale_);
  }
}

absl::Status LoraWeights::Save(const std::string& dir, const std::string& base_model) const {
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", base_model},
                       {"r", section_.rank},
                       {"lora_alpha", section_.alpha},
                       {"lora_dropout", 0.0},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"init_lora_weights", true},
                       {"inference_mode", true},
                       {"target_modules", section_.target_modules}};
  RETURN_IF_ERROR(WriteFileAtomic(dir + kConfigFile, config.dump(2)));
  std::vector<at::Tensor> kept;
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, master] : masters_) {
    kept.push_back(AsFloat(master));
    tensors.push_back({kPeftPrefix + name, "F32", kept.back().sizes().vec(),
                       kept.back().const_data_ptr(), kept.back().nbytes()});
  }
  return WriteSafetensors(dir + kWeightsFile, tensors);
}

absl::Status LoraWeights::Load(const std::string& dir) {
  const std::string path = dir + kWeightsFile;
  std::unique_ptr<SafetensorsFile> file;
  ASSIGN_OR_RETURN(file, SafetensorsFile::Open(path));
  const auto& found = file->header().tensors;
  if (found.size() != masters_.size()) {
    return absl::InvalidArgumentError(path + ": has " + std::to_string(found.size()) +
                                      " tensors, lora asks for " + std::to_string(masters_.size()));
  }
  for (const auto& [name, master] : masters_) {
    const auto entry = found.find(kPeftPrefix + name);
    if (entry == found.end() || entry->second.dtype != "F32" ||
        entry->second.shape != master.sizes().vec()) {
      return absl::InvalidArgumentError(path + ": no " + kPeftPrefix + name +
                                        " of the shape that lora asks for");
    }
    RETURN_IF_ERROR(GuardTorch([&, &tensor = master, &where = entry->second] {
      const at::NoGradGuard no_grad;
      at::Tensor values = at::empty(where.shape, at::kFloat);
      std::memcpy(values.mutable_data_ptr(), file->Data(where), values.nbytes());
      tensor.copy_(values);
    }));
  }
  return GuardTorch([&] { Publish(); });
}

}  // namespace tramontane
