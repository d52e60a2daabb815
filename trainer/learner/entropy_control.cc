#include "trainer/learner/entropy_control.h"

#include <algorithm>

namespace tramontane {

double EntropyControl::Applied(const EntropyConfig& config) const {
  if (config.kind == "none") return 0;
  if (config.kind == "fixed") return config.coefficient;
  return last_entropy <= *config.target ? coefficient : 0;
}

void EntropyControl::Observe(const EntropyConfig& config, double entropy) {
  if (config.kind != "adaptive") return;
  last_entropy = entropy;
  const double change = entropy <= *config.target ? *config.step : -*config.step;
  coefficient = std::clamp(coefficient + change, config.min.value_or(0), *config.max);
}

}  // namespace tramontane
