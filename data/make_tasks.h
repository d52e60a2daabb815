// `tramontane make-tasks`: the made tasks as dataset files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/tasks.h"

namespace tramontane {

struct MakeTasksOptions {
  std::string out_dir;
  std::vector<std::string> kinds = {"addition", "comparison", "sorting", "equation"};
  size_t train_rows = 20000;
  size_t eval_rows = 256;
  size_t sft_rows = 20480;
  Teacher teacher;
  uint64_t seed = 0;
};

// Writes <out_dir>/train.jsonl and eval.jsonl (rows of shape tramontane, verifier "math",
// params {"kind"}) and sft.jsonl ({"prompt", "completion"}), each atomically. No eval prompt occurs
// in the other two. The same options give the same bytes.
absl::Status MakeTaskFiles(const MakeTasksOptions& options);

}  // namespace tramontane
