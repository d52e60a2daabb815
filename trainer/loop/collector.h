// The thread that reads from the queue: finished groups are fetched, checked and handed to the book
// or to the evaluation; expired leases are returned; dead groups are given up. Owns one connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "queue/blob_store.h"
#include "queue/work_queue.h"
#include "trainer/loop/collection_window.h"
#include "trainer/loop/dispatcher.h"
#include "trainer/loop/evaluation.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

class Collector {
 public:
  struct Options {
    std::string run_id;
    double lease_s = 60;
    int max_deliveries = 3;
    std::function<FilterConfig(int64_t step)> filter;  // for groups issued for that step
    // Whether the learner can train on the group; called by the collector's thread.
    std::function<absl::Status(const Group&)> check;
  };
  // Collaborators outlive it.
  Collector(Options options, std::unique_ptr<WorkQueue> queue, const BlobStore& blobs,
            GroupBook& book, Evaluation& evaluation, Dispatcher& dispatcher,
            CollectionWindow& window, RedisHealth& health, Failure& failure,
            MetricsRegistry& metrics);

  void Run(std::stop_token stop);  // the thread's body
  QueueStats stats() const;        // at most a second old while Redis answers; any thread

 private:
  void Handle(const CompletedGroup& completed);
  void HandleEvaluation(const CompletedGroup& completed);
  void HandleTraining(const CompletedGroup& completed, Group group);
  void GiveUp(uint64_t cursor, const std::string& gid, const std::string& blob,
              const std::string& reason, Terminal terminal);
  void HandleDead(const DeadGroup& dead);
  void Housekeeping();
  bool stopping() const { return stop_.stop_requested() || failure_.failed(); }

  const Options options_;
  std::unique_ptr<WorkQueue> queue_;
  const BlobStore& blobs_;
  GroupBook& book_;
  Evaluation& evaluation_;
  Dispatcher& dispatcher_;
  CollectionWindow& window_;
  RedisHealth& health_;
  Failure& failure_;
  MetricsRegistry& metrics_;
  Histogram staleness_;
  Gauge waiting_, leased_, completed_, dead_, oldest_waiting_;
  std::stop_token stop_;
  const std::function<bool()> stopping_fn_;
  std::chrono::steady_clock::time_point last_housekeeping_{};
  int64_t rebuilds_seen_ = 0;
  mutable std::mutex stats_mutex_;
  QueueStats stats_;  // guarded by stats_mutex_
};

}  // namespace tramontane
