// The rollouts that a run has stored, with the verdicts it got for them, to be scored again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/rollout.h"

namespace tramontane {

struct StoredRollouts {
  std::string run_dir;
  std::vector<std::string> only = {};  // rollouts judged by one of these keys; empty: all
  std::string kind = "train";     // or eval
  int64_t limit = 0;              // samples; 0: all
  int64_t first_step = 0;         // what was stored before it is left out
};

struct StoredSample {
  PromptRow row;    // without the name of its verifier; of older runs without its tokens, too
  Rollout rollout;  // with the run's verdict
  std::string gid;
  int64_t step = 0;
  std::map<std::string, double>
      reward_weights;       // of the reward's scheduled parts, as it was scored
  bool has_params = false;  // the row's were stored with it
  int layer = 1;            // 2: a correction, of which this is the part that was judged
};

// Calls `use` for each group, in the order of steps, with those of its samples that are asked for.
// Errors: NotFound (no run directory), DataLoss (file and line are named), what `use` returns.
absl::Status ForEachStoredGroup(const StoredRollouts& options,
                                const std::function<absl::Status(std::vector<StoredSample>)>& use);

}  // namespace tramontane
