// A small manifest with a payload that fits it.
#pragma once

#include <string>
#include <vector>

#include "common/hash.h"
#include "model/weights/manifest.h"

namespace tramontane {

struct TestWeights {
  WeightManifest manifest;
  std::vector<char> payload;
};

// One float32 tensor of `elements` elements whose bytes depend on `version`, and a small second.
inline TestWeights MakeTestWeights(int64_t version, int64_t elements = 1000, int64_t epoch = 1) {
  TestWeights weights;
  const uint64_t first = static_cast<uint64_t>(elements) * 4;
  const uint64_t second_at = (first + 63) / 64 * 64;
  weights.payload.resize(second_at + 6);
  for (size_t i = 0; i < weights.payload.size(); ++i) {
    weights.payload[i] = static_cast<char>((i * 131 + static_cast<size_t>(version) * 17) & 0xff);
  }
  weights.manifest.version = version;
  weights.manifest.trainer_epoch = epoch;
  weights.manifest.payload_bytes = weights.payload.size();
  weights.manifest.tensors = {
      {"a", {elements}, "float32", 0, first, Sha256Hex(weights.payload.data(), first)},
      {"b", {3}, "bfloat16", second_at, 6, Sha256Hex(weights.payload.data() + second_at, 6)}};
  return weights;
}

}  // namespace tramontane
