// Saves what a run goes on from: the learner's state together with where the ledger stands, and
// afterwards lets go of the blobs that no recovery can need any more. The learner's thread only.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "queue/blob_store.h"
#include "trainer/loop/background_writer.h"
#include "trainer/loop/exit_rules.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/loop_journal.h"
#include "trainer/loop/loop_shared.h"
#include "trainer/loop/step_recorder.h"
#include "trainer/trainable.h"

namespace tramontane {

class Checkpointer {
 public:
  // `saved_step`: of the checkpoint that the learner's state came from, -1 without one.
  // Collaborators outlive it.
  Checkpointer(int64_t epoch, int64_t saved_step, Trainable& trainable, LoopJournal& journal,
               const GroupBook& book, const StepRecorder& recorder, const ExitRules& exits,
               const BlobStore& blobs, BackgroundWriter& writer, Events& events, MetricsRegistry& metrics);

  // Durable on return. ResourceExhausted: disk full; the checkpoint before it still stands.
  absl::Status Save(int64_t step);
  int64_t saved_step() const { return saved_step_; }

 private:
  const int64_t epoch_;
  int64_t saved_step_;
  Trainable& trainable_;
  LoopJournal& journal_;
  const GroupBook& book_;
  const StepRecorder& recorder_;
  const ExitRules& exits_;
  const BlobStore& blobs_;
  BackgroundWriter& writer_;
  Events& events_;
  Histogram seconds_;
  Gauge time_, bytes_;
};

}  // namespace tramontane
