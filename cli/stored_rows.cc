#include "cli/stored_rows.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/status.h"
#include "services/verifier/stored_rollouts.h"
#include "trainer/ledger/rollout_log.h"
#include "trainer/ledger/selection.h"

namespace tramontane {
namespace {

Group GroupOf(std::vector<StoredSample> samples) {
  Group group;
  group.task.row = samples.front().row;
  for (StoredSample& sample : samples) {
    if (sample.layer == 1) group.rollouts.push_back(std::move(sample.rollout));
  }
  return group;
}

}  // namespace

absl::StatusOr<int64_t> SelectStoredRows(const std::string& run_dir, int64_t last_step,
                                         const RejectSection& reject, const std::string& tokenizer,
                                         const std::string& path) {
  StoredRollouts stored{.run_dir = run_dir};
  if (reject.last_steps > 0) stored.first_step = last_step - reject.last_steps + 1;
  std::vector<std::vector<Json>> prompts;  // rows of each
  std::map<std::string, size_t> places;    // by row id
  RETURN_IF_ERROR(ForEachStoredGroup(stored, [&](std::vector<StoredSample> samples) {
    std::vector<Json> rows = SelectRows(GroupOf(std::move(samples)), reject, tokenizer);
    if (rows.empty()) return absl::OkStatus();
    const auto [place, fresh] =
        places.try_emplace(rows.front().at("id").get<std::string>(), prompts.size());
    if (fresh) prompts.emplace_back();
    prompts[place->second] = std::move(rows);
    return absl::OkStatus();
  }));
  JsonLines lines;
  int64_t count = 0;
  for (const std::vector<Json>& rows : prompts) {
    for (const Json& row : rows) lines.Add(row);
    count += static_cast<int64_t>(rows.size());
  }
  if (count == 0) {
    return absl::FailedPreconditionError(
        "reject.keep: of the rollouts of " + run_dir + " none is kept by '" + reject.keep + "'" +
        (reject.last_steps > 0 ? ", reject.last_steps " + std::to_string(reject.last_steps) : ""));
  }
  RETURN_IF_ERROR(lines.Write(path));
  return count;
}

}  // namespace tramontane
