// Hands out, shares and counts the block ids of the paged cache. Integers only; one thread.
// Invariant: every block is either free or has a count ≥ 1, and free() + used() == total().
#pragma once

#include <cstdint>
#include <vector>

namespace tramontane {

class BlockPool {
 public:
  explicit BlockPool(int32_t total_blocks);

  // A block with count 1. The caller has checked that free() > 0.
  int32_t Take();
  void Share(int32_t block);    // count + 1; the block is in use
  void Release(int32_t block);  // count − 1; free at 0

  bool shared(int32_t block) const { return counts_[block] > 1; }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t total() const { return static_cast<int32_t>(counts_.size()); }
  int32_t used() const { return total() - free(); }

 private:
  std::vector<int32_t> counts_;
  std::vector<int32_t> free_;  // last in, first out: recently used blocks are still in cache
};

}  // namespace tramontane
