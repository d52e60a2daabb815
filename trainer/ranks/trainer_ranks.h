// The ranks that a configuration asks for, as rank 0 holds them: started, met, ended together.
// One thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "trainer/ranks/local_ranks.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

class TrainerRanks {
 public:
  // Waits until all have joined. DeadlineExceeded names those that have not within
  // trainer.rank_join_timeout_s; Unavailable: one ended instead, or rank_bind cannot be had.
  static absl::StatusOr<TrainerRanks> Start(const TrainerSection& trainer);

  RankGroup* group() const { return group_.get(); }  // null when this process is alone

  // Something ended the group: another start, from a checkpoint, may do better.
  bool lost() const { return group_ != nullptr && !group_->Health().ok(); }

 private:
  std::unique_ptr<LocalRanks> processes_;  // null unless this process started them
  std::unique_ptr<RankGroup> group_;       // ends first: the others leave when it does
};

}  // namespace tramontane
