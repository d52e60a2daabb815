// Staleness by admission (AReaL, arXiv 2505.24298): how many more train groups may be issued so
// that none can be older than `max_staleness_versions` when it is trained on. Pure arithmetic.
#pragma once

#include <cstdint>

namespace tramontane {

class StalenessGate {
 public:
  StalenessGate(int64_t max_staleness_versions, int64_t groups_per_step)
      : max_staleness_(max_staleness_versions), groups_per_step_(groups_per_step) {}

  // accepted: groups trained on or ready for training; running: issued and not yet finished.
  int64_t Capacity(int64_t version, int64_t accepted, int64_t running) const {
    return (max_staleness_ + version + 1) * groups_per_step_ - accepted - running;
  }
  // The gates at dequeue and before the journal: the oldest token's version must be fresh enough.
  bool Fresh(int64_t oldest_version, int64_t version) const {
    return version - oldest_version <= max_staleness_;
  }

 private:
  int64_t max_staleness_;
  int64_t groups_per_step_;
};

}  // namespace tramontane
