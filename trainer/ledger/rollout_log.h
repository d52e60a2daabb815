// What people read after a run: rollouts/step_N/{train,eval}.jsonl, one sample a line with its text,
// tokens, verdict, versions and fate; and metrics.jsonl, one object a step. Not a source of truth:
// appended without fsync. One thread.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/rollout.h"

namespace tramontane {

// One line of a rollouts file. `fate`: "trained", "evaluated", or the reason for which the group was
// dropped.
Json RolloutLine(const Group& group, const Rollout& rollout, const std::string& run_id, int64_t step,
                 const std::string& fate);

// Appends lines to a file, making its folder; the file is closed in between.
class JsonLines {
 public:
  explicit JsonLines(std::string path) : path_(std::move(path)) {}
  void Add(const Json& line);
  absl::Status Flush();  // ResourceExhausted when the disk is full

 private:
  std::string path_;
  std::string buffer_;
};

}  // namespace tramontane
