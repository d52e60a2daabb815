#include "generator/core/route_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "common/rollout.h"

namespace tramontane {

RouteCache::RouteCache(int64_t route_bytes, int32_t blocks, int32_t block_tokens)
    : route_bytes_(static_cast<size_t>(route_bytes)),
      block_tokens_(block_tokens),
      routes_(route_bytes_ * static_cast<size_t>(blocks) * static_cast<size_t>(block_tokens)) {}

size_t RouteCache::Offset(const Sequence& sequence, int32_t position) const {
  const int32_t block = sequence.blocks[static_cast<size_t>(position / block_tokens_)];
  return (static_cast<size_t>(block) * block_tokens_ + position % block_tokens_) * route_bytes_;
}

void RouteCache::Record(const StepPlan& plan, std::span<const uint8_t> routes) {
  if (route_bytes_ == 0) return;
  assert(routes.size() == static_cast<size_t>(plan.tokens) * route_bytes_);
  const size_t block_bytes = route_bytes_ * static_cast<size_t>(block_tokens_);
  for (const BlockCopy& copy : plan.copies) {
    std::memcpy(routes_.data() + copy.to * block_bytes, routes_.data() + copy.from * block_bytes,
                block_bytes);
  }
  const uint8_t* from = routes.data();
  for (const StepItem& item : plan.items) {
    for (int32_t i = 0; i < item.count; ++i, from += route_bytes_)
      std::memcpy(routes_.data() + Offset(*item.sequence, item.start + i), from, route_bytes_);
  }
}

std::vector<uint8_t> RouteCache::Read(const Sequence& sequence, int32_t tokens) const {
  std::vector<uint8_t> read(static_cast<size_t>(std::max(tokens, 0)) * route_bytes_, kNoRoute);
  if (route_bytes_ == 0) return read;
  const int32_t held = std::min(tokens, sequence.cached);
  for (int32_t t = 0; t < held; ++t) {
    std::memcpy(read.data() + static_cast<size_t>(t) * route_bytes_,
                routes_.data() + Offset(sequence, t), route_bytes_);
  }
  return read;
}

}  // namespace tramontane
