// A weight version for the generators: every tensor in one payload, and a probe that proves what
// the receiver computes.
#pragma once

#include <cstdint>
#include <vector>

#include "model/weights/manifest.h"

namespace tramontane {

class Transformer;

WeightManifest SnapshotWeights(Transformer& model, int64_t version, double probe_tolerance,
                               std::vector<char>& payload);

}  // namespace tramontane
