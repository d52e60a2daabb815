// Through which experts each token in the key-value cache went: a few bytes beside each of its
// slots. They are shared, copied and overwritten as keys and values are, so whatever a sequence
// holds in the cache has routes, no matter who computed it. One thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generator/core/scheduler.h"
#include "generator/core/sequence.h"

namespace tramontane {

class RouteCache {
 public:
  // `route_bytes` for each token; 0: a model without experts, nothing is held.
  RouteCache(int64_t route_bytes, int32_t blocks, int32_t block_tokens);

  // After the step: its copies, then `routes` [plan tokens, route bytes].
  void Record(const StepPlan& plan, std::span<const uint8_t> routes);
  // Of the first `tokens` tokens; kNoRoute for those that are not in the cache (now).
  std::vector<uint8_t> Read(const Sequence& sequence, int32_t tokens) const;

 private:
  // Of the token at `position` of a sequence with these blocks.
  size_t Offset(const Sequence& sequence, int32_t position) const;

  const size_t route_bytes_;
  const int32_t block_tokens_;
  std::vector<uint8_t> routes_;  // [blocks, block tokens, route bytes]
};

}  // namespace tramontane
