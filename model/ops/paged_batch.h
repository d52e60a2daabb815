// What one engine step feeds to the model, seen by paged attention. Plain integers, no torch.
#pragma once

#include <cstdint>
#include <vector>

namespace tramontane {

// One sequence's share of a step: rows [first_row, first_row + num_rows) of the flat token batch
// are its tokens at positions first_position, first_position + 1, … (one row when decoding, a
// chunk when prefilling). A sequence appears at most once in a step.
struct PagedSequence {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int64_t first_position = 0;
  // Start of its block table in PagedBatch::block_tables; the table must cover every position up to
  // first_position + num_rows - 1.
  int32_t table_begin = 0;
};

struct PagedBatch {
  int32_t block_tokens = 16;
  std::vector<PagedSequence> sequences;
  std::vector<int32_t> block_tables;  // block ids, all sequences' tables one after the other

  void Clear() {
    sequences.clear();
    block_tables.clear();
  }
};

}  // namespace tramontane
