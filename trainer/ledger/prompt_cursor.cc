#include "trainer/ledger/prompt_cursor.h"

#include <numeric>
#include <utility>

namespace tramontane {
namespace {

// splitmix64: small, seeded, and the same everywhere, which std::shuffle is not.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound), without bias: values of the incomplete last stretch are drawn again.
  uint64_t Below(uint64_t bound) {
    const uint64_t reject_below = (0 - bound) % bound;
    uint64_t value;
    do {
      value = Next();
    } while (value < reject_below);
    return value % bound;
  }

 private:
  uint64_t state_;
};

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
    if (!cursor.is_number_unsigned()) return absl::DataLossError("prompt cursor: beyond has a non-number");
    out.End(cursor.get<uint64_t>());
  }
  return out;
}

}  // namespace tramontane
