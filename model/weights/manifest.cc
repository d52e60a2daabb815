#include "model/weights/manifest.h"

#include <map>
#include <set>

#include "common/hash.h"

namespace tramontane {
namespace {

// Far above any model, far below overflow.
constexpr uint64_t kMaxPayloadBytes = uint64_t{1} << 46;

absl::Status Bad(const TensorEntry& tensor, const std::string& what) {
  return absl::InvalidArgumentError("weight manifest: tensor '" + tensor.name + "': " + what);
}

uint64_t ElementBytes(const std::string& dtype) {
  if (dtype == "float32") return 4;
  if (dtype == "bfloat16") return 2;
  return 0;
}

absl::Status CheckShape(const TensorEntry& tensor) {
  const uint64_t element_bytes = ElementBytes(tensor.dtype);
  if (element_bytes == 0) return Bad(tensor, "unknown dtype '" + tensor.dtype + "'");
  uint64_t bytes = element_bytes;
  for (int64_t extent : tensor.shape) {
    if (extent < 0) return Bad(tensor, "negative extent " + std::to_string(extent));
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes) ||
        bytes > kMaxPayloadBytes) {
      return Bad(tensor, "shape is too large");
    }
  }
  if (bytes != tensor.size_bytes) {
    return Bad(tensor, "shape and dtype need " + std::to_string(bytes) + " bytes, size_bytes is " +
                           std::to_string(tensor.size_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckManifest(const WeightManifest& manifest) {
  if (manifest.version < 0) return absl::InvalidArgumentError("weight manifest: negative version");
  if (manifest.payload_bytes > kMaxPayloadBytes) {
    return absl::InvalidArgumentError("weight manifest: payload_bytes is too large");
  }
  if (manifest.tensors.empty()) return absl::InvalidArgumentError("weight manifest: no tensors");
  std::set<std::string> names;
  uint64_t end = 0;  // of the tensors so far
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.name.empty()) return Bad(tensor, "empty name");
    if (!names.insert(tensor.name).second) return Bad(tensor, "listed twice");
    if (absl::Status status = CheckShape(tensor); !status.ok()) return status;
    if (tensor.offset_bytes < end) return Bad(tensor, "overlaps the tensor before it");
    if (__builtin_add_overflow(tensor.offset_bytes, tensor.size_bytes, &end) ||
        end > manifest.payload_bytes) {
      return Bad(tensor, "reaches beyond the payload of " + std::to_string(manifest.payload_bytes) +
                             " bytes");
    }
  }
  const size_t scored = manifest.probe_tokens.empty() ? 0 : manifest.probe_tokens.size() - 1;
  if (manifest.probe_logprobs.size() != scored) {
    return absl::InvalidArgumentError("weight manifest: probe_logprobs has " +
                                      std::to_string(manifest.probe_logprobs.size()) +
                                      " entries, its tokens need " + std::to_string(scored));
  }
  return absl::OkStatus();
}

absl::Status CheckManifestAgainst(const std::vector<TensorEntry>& expected,
                                  const WeightManifest& manifest) {
  std::map<std::string, const TensorEntry*> entries;
  for (const TensorEntry& entry : manifest.tensors) entries[entry.name] = &entry;
  for (const TensorEntry& tensor : expected) {
    const std::string what = "weight manifest: tensor '" + tensor.name + "'";
    const auto found = entries.find(tensor.name);
    if (found == entries.end()) return absl::InvalidArgumentError(what + " is missing");
    if (found->second->shape != tensor.shape)
      return absl::InvalidArgumentError(what + " has another shape");
    if (found->second->dtype != tensor.dtype)
      return absl::InvalidArgumentError(what + " is " + found->second->dtype +
                                        ", the model holds " + tensor.dtype);
    entries.erase(found);
  }
  if (!entries.empty()) {
    return absl::InvalidArgumentError("weight manifest: tensor '" + entries.begin()->first +
                                      "' is not the model's");
  }
  if (manifest.tensors.size() != expected.size())
    return absl::InvalidArgumentError("weight manifest: a tensor is listed twice");
  return absl::OkStatus();
}

absl::Status VerifyPayload(const WeightManifest& manifest, const void* payload,
                           uint64_t payload_bytes) {
  if (payload_bytes != manifest.payload_bytes) {
    return absl::DataLossError("weight payload has " + std::to_string(payload_bytes) +
                               " bytes, its manifest says " + std::to_string(manifest.payload_bytes));
  }
  if (absl::Status status = CheckManifest(manifest); !status.ok()) return status;
  const char* bytes = static_cast<const char*>(payload);
  for (const TensorEntry& tensor : manifest.tensors) {
    if (Sha256Hex(bytes + tensor.offset_bytes, tensor.size_bytes) != tensor.sha256) {
      return absl::DataLossError("weight payload: tensor '" + tensor.name + "' of version " +
                                 std::to_string(manifest.version) + " has the wrong hash");
    }
  }
  return absl::OkStatus();
}

}  // namespace tramontane
