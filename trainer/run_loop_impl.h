// What a RunLoop holds. Included by run_loop.cc (its life: replay, threads, the end) and
// run_loop_steps.cc (from batch to batch) alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "queue/blob_store.h"
#include "trainer/loop/background_writer.h"
#include "trainer/loop/checkpointer.h"
#include "trainer/loop/collection_window.h"
#include "trainer/loop/collector.h"
#include "trainer/loop/dispatcher.h"
#include "trainer/loop/evaluation.h"
#include "trainer/loop/exit_rules.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/incidents.h"
#include "trainer/loop/loop_journal.h"
#include "trainer/loop/loop_shared.h"
#include "trainer/loop/publish_thread.h"
#include "trainer/loop/recovery.h"
#include "trainer/loop/startup.h"
#include "trainer/loop/starvation.h"
#include "trainer/loop/state_board.h"
#include "trainer/loop/step_recorder.h"
#include "trainer/run_loop.h"

namespace tramontane {

// The order of members is the order of construction; threads are started by Run and end in it.
class RunLoop::Impl {
 public:
  Impl(Options options, LoopParts parts, Trainable& trainable, std::vector<PromptRow> train_rows,
       std::vector<PromptRow> eval_rows, WeightPublisher& publisher, MetricsRegistry& metrics);

  absl::Status Run(const std::atomic<bool>& stop);
  LoopState state() const {
    LoopState state = board_.Get();
    state.queue = collector_.stats();
    state.steps = options_.config.run.max_steps;
    return state;
  }
  int64_t epoch() const { return epoch_; }

 private:
  absl::Status Replay(const std::atomic<bool>& stop);
  absl::Status AwaitReceiver(const std::atomic<bool>& stop, double timeout_s);
  absl::Status Train(const std::atomic<bool>& stop, std::string& reason);
  absl::StatusOr<std::optional<std::vector<ReadyGroup>>> AwaitBatch(const std::atomic<bool>& stop);
  absl::Status TakeStep(std::vector<ReadyGroup> batch);
  absl::Status WhilePaused(const std::atomic<bool>& stop);
  void Offer();
  void TakeEvalResults();
  absl::Status FinalEvaluation(const std::atomic<bool>& stop);
  absl::Status Finish(const std::atomic<bool>& stop, const std::string& reason);
  std::string StopReason(const std::atomic<bool>& stop) const {
    return stop ? "" : exits_.Reason(step_, recorder_.elapsed_s());
  }

  const Options options_;
  const TrainerSection& trainer_;
  Trainable& trainable_;
  WeightPublisher& publisher_;
  const BlobStore blobs_;
  RecoveryPlan plan_;
  const int64_t epoch_;
  const std::vector<PromptRow> train_rows_;

  Events events_;
  Failure failure_;
  RedisHealth health_;
  BackgroundWriter writer_;
  const BatchPlan batches_;
  GroupBook book_;
  Evaluation evaluation_;
  CollectionWindow window_;
  StepRecorder recorder_;
  ExitRules exits_;
  Incidents incidents_;
  Starvation starvation_;
  Counter starved_;
  Gauge paused_;
  PromptSource source_;
  Dispatcher dispatcher_;
  Collector collector_;
  LoopJournal journal_;
  Checkpointer checkpointer_;
  StateBoard board_;
  PublishThread publish_;

  // The learner's thread only.
  int64_t step_ = 0;
  int consecutive_skips_ = 0;
  double batch_wait_s_ = 0;
};

}  // namespace tramontane
