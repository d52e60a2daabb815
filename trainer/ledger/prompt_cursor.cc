#include "trainer/ledger/prompt_cursor.h"

#include <numeric>
#include <utility>

#include "trainer/ledger/split_mix.h"

namespace tramontane {
namespace {

std::vector<uint32_t> ShuffledPass(size_t rows, uint64_t seed, uint64_t pass) {
  std::vector<uint32_t> order(rows);
  std::iota(order.begin(), order.end(), 0u);
  SplitMix mix(SplitMix(seed).Next() ^ pass);
  for (size_t i = rows; i > 1; --i) std::swap(order[i - 1], order[mix.Below(i)]);
  return order;
}

}  // namespace

PromptOrder::PromptOrder(size_t rows, uint64_t seed, bool shuffle)
    : rows_(rows), seed_(seed), shuffle_(shuffle) {
  if (shuffle_) order_ = ShuffledPass(rows_, seed_, 0);
}

size_t PromptOrder::RowAt(uint64_t cursor) {
  if (!shuffle_) return cursor % rows_;
  if (const uint64_t pass = cursor / rows_; pass != pass_) {
    order_ = ShuffledPass(rows_, seed_, pass);
    pass_ = pass;
  }
  return order_[cursor % rows_];
}

void CursorFrontier::End(uint64_t cursor) {
  if (cursor < frontier_) return;
  beyond_.insert(cursor);
  while (!beyond_.empty() && *beyond_.begin() == frontier_) {
    beyond_.erase(beyond_.begin());
    ++frontier_;
  }
}

Json CursorFrontier::ToJson() const { return {{"frontier", frontier_}, {"beyond", beyond_}}; }

absl::StatusOr<CursorFrontier> CursorFrontier::FromJson(const Json& json) {
  CursorFrontier out;
  if (!json.is_object() || !json.contains("frontier") || !json["frontier"].is_number_unsigned() ||
      !json.contains("beyond") || !json["beyond"].is_array()) {
    return absl::DataLossError("prompt cursor: frontier or beyond missing");
  }
  out.frontier_ = json["frontier"].get<uint64_t>();
  for (const Json& cursor : json["beyond"]) {
    if (!cursor.is_number_unsigned())
      return absl::DataLossError("prompt cursor: beyond has a non-number");
    out.End(cursor.get<uint64_t>());
  }
  return out;
}

}  // namespace tramontane
