// Which blocks of the paged cache hold the keys and values of which tokens, so that a sequence that
// begins like an earlier one need not compute its beginning again. Integers only; one thread.
//
// An entry is one full block: the tokens in it, and the entry of the block before. Entries have
// numbers that are never given twice, and the first blocks of all chains follow root(), a number
// that stands for the weights in use. So equal chains of entries mean equal tokens from the first
// position on, computed by one version of the weights, and no collision of hashes can mix them up.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace tramontane {

class PrefixCache {
 public:
  struct Entry {
    uint64_t id = 0;  // 0: there is none
    int32_t block = -1;
  };

  explicit PrefixCache(int32_t total_blocks) : blocks_(total_blocks) {}

  uint64_t root() const { return root_; }
  // The block that holds `tokens` behind the chain that ends with `parent`.
  Entry Find(uint64_t parent, std::span<const int32_t> tokens) const;
  // Notes that `block` holds them. The entry's number; where another block holds them already, that
  // one's, and `block` is not noted.
  uint64_t Insert(uint64_t parent, std::span<const int32_t> tokens, int32_t block);

  bool Holds(int32_t block) const { return blocks_[block].id != 0; }
  void Forget(int32_t block);  // its content changes; harmless where nothing is noted
  // Other weights are in use: nothing that was noted is found from now on.
  void Clear();
  int32_t size() const { return static_cast<int32_t>(by_hash_.size()); }

 private:
  struct Noted {
    uint64_t id = 0, parent = 0, hash = 0;
    std::vector<int32_t> tokens;
  };

  static uint64_t Hash(uint64_t parent, std::span<const int32_t> tokens);

  std::vector<Noted> blocks_;  // by block
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
  uint64_t root_ = 1, next_id_ = 2;
};

}  // namespace tramontane
