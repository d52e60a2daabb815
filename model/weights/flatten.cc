#include "model/weights/flatten.h"

#include <torch/types.h>

#include <cstring>
#include <map>

#include "common/hash.h"
#include "common/status.h"

namespace tramontane {

namespace {

constexpr uint64_t kAlignBytes = 64;

std::string DtypeName(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 ? "bfloat16" : "float32";
}

// What travels: bfloat16 as it is, all else as float32.
at::Tensor AsPayload(const at::Tensor& t) {
  const auto type = t.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  return t.detach().to(at::kCPU, type).contiguous();
}

}  // namespace

WeightManifest FlattenWeights(const Transformer& model, int64_t version,
                              std::vector<char>& payload) {
  WeightManifest manifest;
  manifest.version = version;
  uint64_t end = 0;
  const auto weights = model.NamedWeights();
  for (const auto& [name, tensor] : weights) {
    TensorEntry entry;
    entry.name = name;
    entry.shape = tensor.sizes().vec();
    entry.dtype = DtypeName(tensor);
    entry.offset_bytes = (end + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
    entry.size_bytes = static_cast<uint64_t>(tensor.numel()) * (entry.dtype == "bfloat16" ? 2 : 4);
    end = entry.offset_bytes + entry.size_bytes;
    manifest.tensors.push_back(std::move(entry));
  }
  manifest.payload_bytes = end;
  payload.assign(end, 0);
  for (size_t i = 0; i < weights.size(); ++i) {
    TensorEntry& entry = manifest.tensors[i];
    const at::Tensor t = AsPayload(weights[i].second);
    std::memcpy(payload.data() + entry.offset_bytes, t.const_data_ptr(), entry.size_bytes);
    entry.sha256 = Sha256Hex(payload.data() + entry.offset_bytes, entry.size_bytes);
  }
  return manifest;
}

absl::Status CheckManifestAgainst(const Transformer& model, const WeightManifest& manifest) {
  std::map<std::string, const TensorEntry*> entries;
  for (const TensorEntry& entry : manifest.tensors) entries[entry.name] = &entry;
  const auto weights = model.NamedWeights();
  for (const auto& [name, tensor] : weights) {
    const auto found = entries.find(name);
    if (found == entries.end()) {
      return absl::InvalidArgumentError("weight manifest: tensor '" + name + "' is missing");
    }
    if (at::IntArrayRef(found->second->shape) != tensor.sizes()) {
      return absl::InvalidArgumentError("weight manifest: tensor '" + name + "' has another shape");
    }
    if (found->second->dtype != DtypeName(tensor)) {
      return absl::InvalidArgumentError("weight manifest: tensor '" + name + "' is " +
                                        found->second->dtype + ", the model holds " +
                                        DtypeName(tensor));
    }
    entries.erase(found);
  }
  if (!entries.empty()) {
    return absl::InvalidArgumentError("weight manifest: tensor '" + entries.begin()->first +
                                      "' is not the model's");
  }
  if (manifest.tensors.size() != weights.size()) {
    return absl::InvalidArgumentError("weight manifest: a tensor is listed twice");
  }
  return absl::OkStatus();
}

absl::Status CopyInto(Transformer& model, const WeightManifest& manifest, const void* payload) {
  RETURN_IF_ERROR(CheckManifestAgainst(model, manifest));
  RETURN_IF_ERROR(CheckManifest(manifest));
  std::map<std::string, at::Tensor> weights;
  for (auto& [name, tensor] : model.NamedWeights()) weights[name] = tensor;
  try {
    at::NoGradGuard no_grad;
    for (const TensorEntry& entry : manifest.tensors) {
      const auto type = entry.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
      char* data = const_cast<char*>(static_cast<const char*>(payload)) + entry.offset_bytes;
      weights[entry.name].copy_(at::from_blob(data, entry.shape, at::TensorOptions().dtype(type)));
    }
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("weight copy: ") + error.what());
  }
  return absl::OkStatus();
}

}  // namespace tramontane
