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

std::vector<TensorEntry> EntriesOf(const Transformer& model) {
  std::vector<TensorEntry> entries;
  uint64_t end = 0;
  for (const auto& [name, tensor] : model.NamedWeights()) {
    TensorEntry entry;
    entry.name = name;
    entry.shape = tensor.sizes().vec();
    entry.dtype = DtypeName(tensor);
    entry.offset_bytes = (end + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
    entry.size_bytes = static_cast<uint64_t>(tensor.numel()) * (entry.dtype == "bfloat16" ? 2 : 4);
    end = entry.offset_bytes + entry.size_bytes;
    entries.push_back(std::move(entry));
  }
  return entries;
}

WeightManifest FlattenWeights(const Transformer& model, int64_t version,
                              std::vector<char>& payload) {
  WeightManifest manifest;
  manifest.version = version;
  manifest.tensors = EntriesOf(model);
  const TensorEntry& last = manifest.tensors.back();
  manifest.payload_bytes = last.offset_bytes + last.size_bytes;
  payload.assign(manifest.payload_bytes, 0);
  const auto weights = model.NamedWeights();
  for (size_t i = 0; i < weights.size(); ++i) {
    TensorEntry& entry = manifest.tensors[i];
    const at::Tensor t = AsPayload(weights[i].second);
    std::memcpy(payload.data() + entry.offset_bytes, t.const_data_ptr(), entry.size_bytes);
    entry.sha256 = Sha256Hex(payload.data() + entry.offset_bytes, entry.size_bytes);
  }
  return manifest;
}

absl::Status CopyInto(Transformer& model, const WeightManifest& manifest, const void* payload) {
  RETURN_IF_ERROR(CheckManifestAgainst(EntriesOf(model), manifest));
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
