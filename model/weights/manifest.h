// What a weight version consists of: name, shape, dtype, place and hash of every tensor in one
// flat payload. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tramontane {

struct TensorEntry {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;  // "float32" | "bfloat16"
  uint64_t offset_bytes = 0, size_bytes = 0;
  std::string sha256;
};

struct WeightManifest {
  int64_t version = 0;
  int64_t trainer_epoch = 0;
  uint64_t payload_bytes = 0;
  std::vector<TensorEntry> tensors;
  std::vector<int32_t> probe_tokens;
  std::vector<float> probe_logprobs;  // of probe_tokens[1:], float32, temperature 1
  double probe_tolerance = 1e-3;
};

// Shapes × dtype = size, in order, no overlap, inside the payload. InvalidArgument names the tensor.
absl::Status CheckManifest(const WeightManifest& manifest);
// Every name, shape and dtype must be as expected; missing and extra tensors are errors.
// InvalidArgument names the tensor.
absl::Status CheckManifestAgainst(const std::vector<TensorEntry>& expected,
                                  const WeightManifest& manifest);
// Hash of every tensor in `payload`. DataLoss names the tensor.
absl::Status VerifyPayload(const WeightManifest& manifest, const void* payload, uint64_t payload_bytes);

}  // namespace tramontane
