// The order in which prompts are issued, and which of them have come to an end.
//
//   PromptOrder    cursor → dataset row: a seeded shuffle of every pass over the data
//   CursorFrontier which cursors ended (trained, dropped, rolled back): all below the frontier and
//   a
//                  set beyond it. Resuming issues again exactly the others: nothing is skipped and
//                  nothing is biased towards prompts that finish late.
//
// Torch-free, deterministic on every platform. One thread.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

class PromptOrder {
 public:
  PromptOrder(size_t rows, uint64_t seed, bool shuffle);
  size_t RowAt(uint64_t cursor);  // rows must be > 0

 private:
  const size_t rows_;
  const uint64_t seed_;
  const bool shuffle_;
  uint64_t pass_ = 0;  // the pass that order_ holds
  std::vector<uint32_t> order_;
};

class CursorFrontier {
 public:
  void End(uint64_t cursor);  // idempotent
  bool Ended(uint64_t cursor) const { return cursor < frontier_ || beyond_.count(cursor) > 0; }
  uint64_t frontier() const { return frontier_; }  // the lowest cursor that has not ended
  size_t beyond() const { return beyond_.size(); }

  Json ToJson() const;
  static absl::StatusOr<CursorFrontier> FromJson(const Json& json);
  bool operator==(const CursorFrontier&) const = default;

 private:
  uint64_t frontier_ = 0;
  std::set<uint64_t> beyond_;
};

}  // namespace tramontane
