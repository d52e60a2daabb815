#include "generator/core/block_pool.h"

#include <cassert>

namespace tramontane {

BlockPool::BlockPool(int32_t total_blocks) : counts_(total_blocks, 0) {
  free_.reserve(total_blocks);
  for (int32_t block = total_blocks - 1; block >= 0; --block) free_.push_back(block);
}

int32_t BlockPool::Take() {
  assert(!free_.empty());
  const int32_t block = free_.back();
  free_.pop_back();
  counts_[block] = 1;
  return block;
}

void BlockPool::Share(int32_t block) {
  assert(counts_[block] > 0);
  ++counts_[block];
}

void BlockPool::Release(int32_t block) {
  assert(counts_[block] > 0);
  if (--counts_[block] == 0) free_.push_back(block);
}

}  // namespace tramontane
