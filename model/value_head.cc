#include "model/value_head.h"

#include <ATen/ATen.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/safetensors.h"

namespace tramontane {
namespace {

const char* const kValueHeadFile = "/value_head.safetensors";

std::vector<std::pair<std::string, at::Tensor>> PartsOf(const ValueHead& head) {
  return {{"value_head.weight", head.weight_D}, {"value_head.bias", head.bias}};
}

}  // namespace

at::Tensor ValueHead::Of(const at::Tensor& hidden_RD) const {
  const auto wide = weight_D.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::mv(hidden_RD.to(wide), weight_D.to(wide)) + bias.to(wide);
}

absl::Status SaveValueHead(const ValueHead& head, const std::string& folder) {
  std::vector<at::Tensor> wide;  // what the entries point to
  std::vector<SafetensorsTensor> entries;
  for (const auto& [name, part] : PartsOf(head)) {
    const at::Tensor& kept =
        wide.emplace_back(part.detach().to(at::kCPU, at::kDouble).contiguous());
    entries.push_back({name, "F64", kept.sizes().vec(), kept.const_data_ptr(), kept.nbytes()});
  }
  return WriteSafetensors(folder + kValueHeadFile, entries);
}

absl::Status LoadValueHead(const std::string& folder, ValueHead& head) {
  const std::string path = folder + kValueHeadFile;
  ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(path));
  for (auto& [name, part] : PartsOf(head)) {
    const auto found = file->header().tensors.find(name);
    if (found == file->header().tensors.end() || found->second.dtype != "F64" ||
        found->second.shape != part.sizes().vec()) {
      return absl::DataLossError(path + ": no " + name + " of the critic's shape");
    }
    RETURN_IF_ERROR(GuardTorch([&, &tensor = part, &entry = found->second] {
      const at::NoGradGuard no_grad;
      at::Tensor wide = at::empty(entry.shape, at::kDouble);
      std::memcpy(wide.data_ptr(), file->Data(entry), wide.nbytes());
      tensor.copy_(wide);
    }));
  }
  return absl::OkStatus();
}

}  // namespace tramontane
