// Staleness by admission (AReaL, arXiv 2505.24298): how many more train groups may be issued so
// that none can be older than `max_staleness_versions` when it is trained on. Pure arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

namespace tramontane {

// How many groups each optimiser step takes; a schedule may change it. Steps count from 1.
class BatchPlan {
 public:
  struct Part {
    int64_t first_step, groups_per_step;
  };
  // The same in every step.
  BatchPlan(int64_t groups_per_step) : parts_{{1, groups_per_step}} {}
  // Ascending first steps, the first of them 1.
  explicit BatchPlan(std::vector<Part> parts) : parts_(std::move(parts)) {}

  int64_t At(int64_t step) const {
    const auto after =
        std::upper_bound(parts_.begin(), parts_.end(), step,
                         [](int64_t s, const Part& part) { return s < part.first_step; });
    return after == parts_.begin() ? parts_.front().groups_per_step
                                   : std::prev(after)->groups_per_step;
  }
  // Of steps 1 … step together.
  int64_t Through(int64_t step) const {
    int64_t groups = 0;
    for (size_t i = 0; i < parts_.size() && parts_[i].first_step <= step; ++i) {
      const int64_t end =
          i + 1 < parts_.size() ? std::min(step + 1, parts_[i + 1].first_step) : step + 1;
      groups += (end - parts_[i].first_step) * parts_[i].groups_per_step;
    }
    return groups;
  }
  int64_t largest() const {
    int64_t largest = 0;
    for (const Part& part : parts_) largest = std::max(largest, part.groups_per_step);
    return largest;
  }

 private:
  std::vector<Part> parts_;
};

class StalenessGate {
 public:
  StalenessGate(int64_t max_staleness_versions, BatchPlan batches)
      : max_staleness_(max_staleness_versions), batches_(std::move(batches)) {}

  // accepted: groups trained on or ready for training; running: issued and not yet finished.
  int64_t Capacity(int64_t version, int64_t accepted, int64_t running) const {
    return batches_.Through(max_staleness_ + version + 1) - accepted - running;
  }
  // The gates at dequeue and before the journal: the oldest token's version must be fresh enough.
  bool Fresh(int64_t oldest_version, int64_t version) const {
    return version - oldest_version <= max_staleness_;
  }

 private:
  int64_t max_staleness_;
  BatchPlan batches_;
};

}  // namespace tramontane
