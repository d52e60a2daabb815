#include "generator/core/prefix_cache.h"

#include <algorithm>

namespace tramontane {

uint64_t PrefixCache::Hash(uint64_t parent, std::span<const int32_t> tokens) {
  uint64_t hash = parent * 0x9E3779B97F4A7C15u;
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return hash;
}

PrefixCache::Entry PrefixCache::Find(uint64_t parent, std::span<const int32_t> tokens) const {
  const auto [begin, end] = by_hash_.equal_range(Hash(parent, tokens));
  for (auto it = begin; it != end; ++it) {
    const Noted& noted = blocks_[it->second];
    if (noted.parent == parent && std::ranges::equal(noted.tokens, tokens))
      return {noted.id, it->second};
  }
  return {};
}

uint64_t PrefixCache::Insert(uint64_t parent, std::span<const int32_t> tokens, int32_t block) {
  if (const Entry known = Find(parent, tokens); known.id != 0) return known.id;
  Forget(block);
  Noted& noted = blocks_[block];
  noted = {next_id_++, parent, Hash(parent, tokens), {tokens.begin(), tokens.end()}};
  by_hash_.emplace(noted.hash, block);
  return noted.id;
}

void PrefixCache::Forget(int32_t block) {
  if (!Holds(block)) return;
  const auto [begin, end] = by_hash_.equal_range(blocks_[block].hash);
  by_hash_.erase(std::find_if(begin, end, [&](const auto& at) { return at.second == block; }));
  blocks_[block].id = 0;
}

void PrefixCache::Clear() {
  for (const auto& [hash, block] : by_hash_) blocks_[block].id = 0;
  by_hash_.clear();
  root_ = next_id_++;
}

}  // namespace tramontane
