// What came out of a run, from its metrics.jsonl.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

// The objects of <run>/metrics.jsonl, in order. A torn last line is left out.
absl::StatusOr<std::vector<Json>> ReadMetrics(const std::string& run_dir);

// Accuracy before and after, rewards, rates, versions, staleness and the log-probability gap.
// Numbers that the run never measured are null. Of a chain {"run_dir", "stages"}: StageStates'
// entries, those that had a run loop with the numbers of theirs under "summary".
absl::StatusOr<Json> Summarise(const std::string& run_dir);
Json SummariseMetrics(const std::vector<Json>& metrics);

std::string RenderSummary(const Json& summary);

}  // namespace tramontane
