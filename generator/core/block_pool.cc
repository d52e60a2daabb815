#include "generator/core/block_pool.h"

#include <cassert>

namespace tramontane {

BlockPool::BlockPool(int32_t total_blocks)
    : counts_(total_blocks, 0), links_(total_blocks), is_kept_(total_blocks, false) {
  empty_.reserve(total_blocks);
  for (int32_t block = total_blocks - 1; block >= 0; --block) empty_.push_back(block);
}

int32_t BlockPool::Take() {
  assert(free() > 0);
  int32_t block = oldest_;
  if (empty_.empty()) {
    Unlink(block);
  } else {
    block = empty_.back();
    empty_.pop_back();
  }
  counts_[block] = 1;
  return block;
}

void BlockPool::Share(int32_t block) {
  assert(counts_[block] > 0 || is_kept_[block]);
  if (is_kept_[block]) Unlink(block);
  ++counts_[block];
}

void BlockPool::Release(int32_t block, bool keep) {
  assert(counts_[block] > 0);
  if (--counts_[block] > 0) return;
  if (!keep) {
    empty_.push_back(block);
    return;
  }
  links_[block] = {newest_, kNone};
  (newest_ == kNone ? oldest_ : links_[newest_].after) = block;
  newest_ = block;
  is_kept_[block] = true;
  ++kept_;
}

void BlockPool::Empty(int32_t block) {
  if (!is_kept_[block]) return;
  Unlink(block);
  empty_.push_back(block);
}

void BlockPool::Unlink(int32_t block) {
  const auto [before, after] = links_[block];
  (before == kNone ? oldest_ : links_[before].after) = after;
  (after == kNone ? newest_ : links_[after].before) = before;
  is_kept_[block] = false;
  --kept_;
}

}  // namespace tramontane
