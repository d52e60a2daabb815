#include "trainer/loop/checkpointer.h"

#include <chrono>

#include "common/clock.h"
#include "common/status.h"
#include "trainer/loop/recovery.h"

namespace tramontane {

Checkpointer::Checkpointer(int64_t epoch, int64_t saved_step, Trainable& trainable,
                           LoopJournal& journal, const GroupBook& book,
                           const StepRecorder& recorder, const ExitRules& exits,
                           const BlobStore& blobs, BackgroundWriter& writer, Events& events, MetricsRegistry& metrics)
    : epoch_(epoch),
      saved_step_(saved_step),
      trainable_(trainable),
      journal_(journal),
      book_(book),
      recorder_(recorder),
      exits_(exits),
      blobs_(blobs),
      writer_(writer),
      events_(events),
      seconds_(metrics.MakeHistogram("tramontane_checkpoint_seconds")),
      time_(metrics.MakeGauge("tramontane_checkpoint_timestamp_seconds")),
      bytes_(metrics.MakeGauge("tramontane_checkpoint_bytes")) {}

absl::Status Checkpointer::Save(int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(journal_.AppendDrops(step));
  LedgerState ledger;
  ledger.journal_size = journal_.size();
  ledger.journal_head = journal_.head();
  ledger.frontier = book_.frontier();
  ledger.elapsed_s = recorder_.elapsed_s();
  ledger.generated_tokens = recorder_.generated_tokens();
  ledger.recent_rewards = recorder_.recent_rewards();
  ledger.exits = exits_.ToJson();
  ASSIGN_OR_RETURN(const int64_t bytes, trainable_.SaveCheckpoint({step, epoch_, ToJson(ledger)}));
  saved_step_ = step;
  // The writer may outlive this object, but not the blob store.
  writer_.Do("removal of old blobs", [&blobs = blobs_, removable = journal_.CheckpointDurable()] {
    for (const std::string& address : removable) RETURN_IF_ERROR(blobs.Remove(address));
    return absl::OkStatus();
  });
  const double seconds = SecondsSince(start);
  seconds_.Observe(seconds);
  time_.Set(SystemClock().NowUnixMs() / 1e3);
  bytes_.Set(static_cast<double>(bytes));
  events_.Emit({{"event", "checkpoint"}, {"step", step}, {"seconds", seconds}, {"bytes", bytes}});
  return absl::OkStatus();
}

}  // namespace tramontane
