// Models of one shape averaged into one (Kimi k1.5 §2.4 "model merging"; task arithmetic: arXiv
// 2212.04089; slerp: Shoemake 1985, tensor by tensor).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/config.h"

namespace tramontane {

// Writes the merged model to `out_dir` as SaveModelDir does, with `base_dir`'s tokenizer files; of
// task_arithmetic base_dir is also the base. Two models are in memory at a time, three for
// task_arithmetic. InvalidArgument names a model of another shape.
absl::Status MergeModels(const MergeSection& merge, const std::string& base_dir,
                         const std::string& out_dir);

}  // namespace tramontane
