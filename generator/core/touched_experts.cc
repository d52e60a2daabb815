#include "generator/core/touched_experts.h"

#include <bitset>
#include <vector>

#include "common/rollout.h"

namespace tramontane {

int64_t TouchedExperts(std::span<const uint8_t> routes, int64_t layers, int64_t experts_per_token) {
  std::vector<std::bitset<256>> touched(static_cast<size_t>(layers));
  for (size_t i = 0; i < routes.size(); ++i) {
    if (routes[i] == kNoRoute) continue;
    touched[i / static_cast<size_t>(experts_per_token) % touched.size()].set(routes[i]);
  }
  size_t sum = 0;
  for (const auto& layer : touched) sum += layer.count();
  return static_cast<int64_t>(sum);
}

}  // namespace tramontane
