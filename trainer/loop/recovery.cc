#include "trainer/loop/recovery.h"

#include <utility>

#include "common/record_io.h"
#include "common/status.h"
#include "trainer/ledger/group_gate.h"

namespace tramontane {

Json ToJson(const LedgerState& state) {
  return {{"journal_size", state.journal_size},         {"journal_head", state.journal_head},
          {"cursor", state.frontier.ToJson()},          {"elapsed_s", state.elapsed_s},
          {"generated_tokens", state.generated_tokens}, {"recent_rewards", state.recent_rewards},
          {"exits", state.exits}};
}

absl::StatusOr<LedgerState> LedgerFromJson(const Json& json) {
  LedgerState state;
  try {
    state.journal_size = json.at("journal_size").get<int64_t>();
    state.journal_head = json.at("journal_head").get<std::string>();
    ASSIGN_OR_RETURN(state.frontier, CursorFrontier::FromJson(json.at("cursor")));
    state.elapsed_s = json.at("elapsed_s").get<double>();
    state.generated_tokens = json.at("generated_tokens").get<int64_t>();
    state.recent_rewards = json.at("recent_rewards").get<std::vector<double>>();
    state.exits = json.value("exits", Json::object());  // absent in older checkpoints
  } catch (const Json::exception& e) {
    return absl::DataLossError(std::string("checkpoint ledger: ") + e.what());
  }
  return state;
}

absl::StatusOr<RecoveryPlan> PlanRecovery(const Journal& journal, bool resume,
                                          const std::optional<CheckpointState>& restored,
                                          int64_t checkpoint_interval_steps) {
  const std::vector<JournalRecord>& records = journal.records();
  if (!resume && !records.empty()) {
    return absl::FailedPreconditionError(
        "the run directory has a journal already; resume it or choose another");
  }
  const Lineage lineage = VerifyLineage(records);
  if (!lineage.problems.empty()) return absl::DataLossError("journal: " + lineage.problems.front());

  RecoveryPlan plan;
  plan.last_epoch = lineage.last_epoch;
  if (restored) {
    plan.step = restored->step;
    plan.last_epoch = std::max(plan.last_epoch, restored->trainer_epoch);
    ASSIGN_OR_RETURN(plan.ledger, LedgerFromJson(restored->ledger));
    if (!journal.Contains(plan.ledger.journal_size, plan.ledger.journal_head)) {
      return absl::DataLossError("checkpoint of step " + std::to_string(restored->step) +
                                 " does not belong to this run's journal");
    }
  }
  if (lineage.last_step < plan.step) {
    return absl::FailedPreconditionError("checkpoint of step " + std::to_string(plan.step) +
                                         " is of a lineage that was rolled back to step " +
                                         std::to_string(lineage.last_step));
  }
  for (size_t i = static_cast<size_t>(plan.ledger.journal_size); i < records.size(); ++i) {
    if (records[i].kind == "rollback" && records[i].step < plan.step) {
      return absl::FailedPreconditionError("checkpoint of step " + std::to_string(plan.step) +
                                           " is of a lineage that was rolled back to step " +
                                           std::to_string(records[i].step));
    }
    for (uint64_t cursor : records[i].cursors) plan.ledger.frontier.End(cursor);
  }
  for (size_t index : lineage.batches) {
    const JournalRecord& batch = records[index];
    if (batch.step > plan.step) plan.replay.push_back(batch);
    // One interval more than this checkpoint needs, should it turn out to be damaged later.
    if (batch.step > plan.step - checkpoint_interval_steps) {
      plan.needed_blobs.insert(plan.needed_blobs.end(), batch.blobs.begin(), batch.blobs.end());
    }
  }
  return plan;
}

absl::StatusOr<std::vector<Group>> LoadBatch(const JournalRecord& batch, const BlobStore& blobs,
                                             const RunConfig& config) {
  std::vector<Group> groups;
  for (const std::string& address : batch.blobs) {
    ASSIGN_OR_RETURN(const std::string bytes, blobs.Get(address));
    ASSIGN_OR_RETURN(Group group, DecodeGroup(bytes));
    RemoveInvalidSamples(group, FilterAtStep(config, group.task.issued_version + 1));
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace tramontane
