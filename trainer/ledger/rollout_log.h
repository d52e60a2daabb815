// What people read after a run: rollouts/step_N/{train,eval}.jsonl, one sample a line with its text,
// tokens, verdict, versions and fate; and metrics.jsonl, one object a step. Not a source of truth. One
// thread.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/rollout.h"

namespace tramontane {

// One line of a rollouts file. `fate`: "trained", "evaluated", or the reason for which the group was
// dropped.
Json RolloutLine(const Group& group, const Rollout& rollout, const std::string& run_id, int64_t step,
                 const std::string& fate);

// Lines on their way to a file, whose folder is made. ResourceExhausted when the disk is full.
class JsonLines {
 public:
  void Add(const Json& line);
  // The file holds these lines and no others, and nobody ever sees a part of them.
  absl::Status Write(const std::string& path) const;
  // Behind what the file holds, without fsync; it is closed in between.
  absl::Status AppendTo(const std::string& path) const;

 private:
  std::string text_;
};

}  // namespace tramontane
