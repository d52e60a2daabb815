// Between a Transformer's tensors and the flat payload of a weight version.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "model/transformer.h"
#include "model/weights/manifest.h"

namespace tramontane {

// Name, shape, dtype and place of each tensor, in the model's order; no hashes.
std::vector<TensorEntry> EntriesOf(const Transformer& model);

// Copies the weights into `payload` (resized, each tensor 64-byte aligned) and fills the manifest,
// hashes included. Probe fields are left to the caller.
WeightManifest FlattenWeights(const Transformer& model, int64_t version,
                              std::vector<char>& payload);

// Copies a verified payload into the model's tensors in place (addresses stay).
absl::Status CopyInto(Transformer& model, const WeightManifest& manifest, const void* payload);

}  // namespace tramontane
