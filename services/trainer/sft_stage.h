// The cold start: supervised steps from the base model, ending in a Hugging Face folder.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/metrics.h"
#include "services/run_files.h"

namespace tramontane {

class RankGroup;

// Whether the configuration has this stage at all.
bool HasSftStage(const RunConfig& config);

struct SftStage {
  const RunConfig& config;
  const TextTools& text;
  std::string base_dir;  // model to start from
  std::string out_dir;   // exists only when complete; then the stage is done already
  RankGroup* ranks = nullptr;             // processes that learn together; null: this one alone
  std::function<void(const Json&)> emit;  // {"event": "sft_step", …}
};

// Cancelled when `stop` becomes true; nothing is written then, and the next run starts it afresh.
// InvalidArgument names the data's file and line.
absl::Status RunSftStage(const SftStage& stage, MetricsRegistry& metrics,
                         const std::atomic<bool>& stop);

}  // namespace tramontane
