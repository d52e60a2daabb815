// The journal as the loop writes it: batches before they are trained on, groups that were dropped,
// rollbacks. Whatever an fsync has covered is then retired from the queue, and its blobs are kept
// until no recovery can need them. The learner's thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "trainer/ledger/journal.h"
#include "trainer/loop/blob_janitor.h"
#include "trainer/loop/collection_window.h"
#include "trainer/loop/dispatcher.h"
#include "trainer/loop/group_book.h"

namespace tramontane {

class LoopJournal {
 public:
  // Collaborators outlive it.
  LoopJournal(std::unique_ptr<Journal> journal, int64_t epoch, int32_t samples_per_group,
              GroupBook& book, PromptSource& source, Dispatcher& dispatcher,
              CollectionWindow& window, MetricsRegistry& metrics);

  // Durable on return: the groups dropped so far and the batch that step `step` will train on.
  absl::Status AppendBatch(int64_t step, const std::vector<ReadyGroup>& batch);
  // Durable on return: the groups dropped so far, after step `step`.
  absl::Status AppendDrops(int64_t step);
  absl::Status AppendRollback(int64_t step, const std::string& reason);
  // Blobs of a batch that recovery trained on again.
  void KeepUntilCheckpoint(const std::vector<std::string>& blobs) { janitor_.Ended(blobs); }

  std::vector<DroppedGroup> TakeDropped();  // journalled since the last call
  int64_t dropped() const { return static_cast<int64_t>(dropped_.size()); }
  double seconds_since_append() const;
  // After a checkpoint of all that was appended: blobs that may be deleted.
  std::vector<std::string> CheckpointDurable() { return janitor_.CheckpointDurable(); }
  const std::vector<JournalRecord>& records() const {
    return journal_->records();
  }  // of earlier attempts
  int64_t size() const { return journal_->size(); }
  std::string head() const { return journal_->head(); }

 private:
  absl::Status WriteDrops(int64_t step, bool durable);
  void RetireEnded();

  std::unique_ptr<Journal> journal_;
  const int64_t epoch_;
  const int32_t samples_per_group_;
  GroupBook& book_;
  PromptSource& source_;
  Dispatcher& dispatcher_;
  CollectionWindow& window_;
  Histogram append_seconds_;
  BlobJanitor janitor_;
  std::vector<DroppedGroup> dropped_;
  std::map<Terminal, std::vector<std::string>> ended_;  // journalled, not yet retired
  std::chrono::steady_clock::time_point last_append_ = std::chrono::steady_clock::now();
};

}  // namespace tramontane
