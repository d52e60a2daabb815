// Hands out, shares and counts the block ids of the paged cache. Integers only; one thread.
//
// A block is in use (count ≥ 1), kept (count 0, but somebody may want its content again), or empty.
// Invariant: free() + used() == total(). Kept blocks are free: they are taken when no empty one is
// left, the one that was released longest ago first.
#pragma once

#include <cstdint>
#include <vector>

namespace tramontane {

class BlockPool {
 public:
  explicit BlockPool(int32_t total_blocks);

  // A block with count 1, whatever it holds. The caller has checked that free() > 0.
  int32_t Take();
  void Share(int32_t block);  // count + 1; the block is in use, or kept
  // count − 1; at 0 the block is kept if `keep`, or else empty.
  void Release(int32_t block, bool keep = false);
  void Empty(int32_t block);  // a kept block is empty from now on; others stay as they are

  bool shared(int32_t block) const { return counts_[block] > 1; }
  bool used(int32_t block) const { return counts_[block] > 0; }
  int32_t free() const { return static_cast<int32_t>(empty_.size()) + kept_; }
  int32_t kept() const { return kept_; }
  int32_t total() const { return static_cast<int32_t>(counts_.size()); }
  int32_t used() const { return total() - free(); }

 private:
  static constexpr int32_t kNone = -1;
  struct Links {
    int32_t before = kNone, after = kNone;
  };

  void Unlink(int32_t block);

  std::vector<int32_t> counts_;
  std::vector<int32_t> empty_;  // last in, first out: recently used blocks are still in cache
  std::vector<Links> links_;    // of kept blocks, from the first released to the last
  std::vector<bool> is_kept_;
  int32_t oldest_ = kNone, newest_ = kNone;
  int32_t kept_ = 0;
};

}  // namespace tramontane
