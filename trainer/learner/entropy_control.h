// The adaptive entropy bonus: its coefficient climbs while the policy's entropy is at or below a
// target, falls while it is above, and acts only while it is below (Skywork-OR1, arXiv 2505.22312
// §3.2.5; TRL gates with ≤, as here). Torch-free; the learner's thread owns it.
#pragma once

#include <limits>

#include "common/config.h"

namespace tramontane {

struct EntropyControl {
  double coefficient = 0;
  // Mean over the tokens of the last step; infinite before the first, so that nothing is added yet.
  double last_entropy = std::numeric_limits<double>::infinity();

  static EntropyControl Start(const EntropyConfig& config) {
    return {.coefficient = config.coefficient};
  }

  // What this step's loss adds: the configured weight when fixed, 0 for kind none.
  double Applied(const EntropyConfig& config) const;
  // After a step: entropy in nats per token. Nothing happens unless adaptive.
  void Observe(const EntropyConfig& config, double entropy);
};

}  // namespace tramontane
