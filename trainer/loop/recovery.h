// From journal and checkpoint to where the run stood: which prompts have ended, which journalled
// batches must be trained on again. Pure but for reading blobs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "queue/blob_store.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/ledger/journal.h"
#include "trainer/ledger/lineage.h"
#include "trainer/ledger/prompt_cursor.h"

namespace tramontane {

// What a checkpoint keeps of the ledger (CheckpointState::ledger).
struct LedgerState {
  int64_t journal_size = 0;
  std::string journal_head;
  CursorFrontier frontier;
  double elapsed_s = 0;  // wall time of the RL stage so far
  int64_t generated_tokens = 0;
  std::vector<double> recent_rewards;  // of the last steps, newest last
  Json exits = Json::object();         // trainer/loop/exit_rules.h
};
Json ToJson(const LedgerState& state);
absl::StatusOr<LedgerState> LedgerFromJson(const Json& json);

struct RecoveryPlan {
  LedgerState ledger;
  int64_t step = 0;                       // of the weights that the learner holds
  int64_t last_epoch = 0;                 // highest in the journal
  std::vector<JournalRecord> replay;      // batches step+1, step+2, …
  std::vector<std::string> needed_blobs;  // of batches that a replay may still need
};

// FailedPrecondition: the journal has records and `resume` is false, or the checkpoint is of a
// lineage that was rolled back. DataLoss: journal damaged, inconsistent, or not the checkpoint's.
absl::StatusOr<RecoveryPlan> PlanRecovery(const Journal& journal, bool resume,
                                          const std::optional<CheckpointState>& restored,
                                          int64_t checkpoint_interval_steps);

// The groups of a journalled batch as they were trained on. NotFound, DataLoss: a blob is gone.
absl::StatusOr<std::vector<Group>> LoadBatch(const JournalRecord& batch, const BlobStore& blobs,
                                             const RunConfig& config);

}  // namespace tramontane
