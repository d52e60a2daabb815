// The thread that writes to the queue: admits evaluation and train groups as far as there is room,
// retires what the journal says has ended, and after Redis lost its data admits again what is
// missing. Owns one connection. Redis being away is waited out.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "queue/blob_store.h"
#include "queue/work_queue.h"
#include "trainer/ledger/prompt_source.h"
#include "trainer/loop/evaluation.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

class Dispatcher {
 public:
  struct Options {
    std::string run_id;
    uint64_t seed = 0;
    int64_t epoch = 0;
    // As it is in an optimiser step: lengths and temperatures may have a schedule.
    std::function<RolloutSection(int64_t step)> rollout;
    // Of the reward's parts that have a schedule, in an optimiser step.
    std::function<std::map<std::string, double>(int64_t step)> reward_weights;
    bool wants_routes = false;  // train groups say which experts their tokens went through
    int64_t high_water = 0;     // groups of one purpose that may wait in Redis
  };
  // Collaborators outlive it.
  Dispatcher(Options options, const std::vector<PromptRow>& rows, PromptSource& source,
             std::unique_ptr<WorkQueue> queue, const BlobStore& blobs, GroupBook& book,
             Evaluation& evaluation, RedisHealth& health, Failure& failure,
             MetricsRegistry& metrics);

  void Run(std::stop_token stop);  // the thread's body

  // Any thread. The groups' end is durable; their blobs `remove` are not needed by anybody.
  void Retire(Terminal terminal, std::vector<std::string> gids,
              std::vector<std::string> remove = {});
  // After Run has returned: one more try to retire what is left; with `empty`, nothing stays in
  // Redis.
  void Drain(bool empty);
  // Train groups are issued from now on (evaluation always is).
  void AllowTraining(bool allowed) { training_allowed_ = allowed; }
  // Times that the queue was rebuilt after Redis lost its data; the collector then starts over.
  int64_t rebuilds() const { return rebuilds_; }

 private:
  struct Retirement {
    Terminal terminal;
    std::vector<std::string> gids, remove;
  };
  // What an earlier process of this run left in the queue: train groups count as running from now
  // on, evaluations are given up.
  void AdoptOutstanding();
  void FlushRetirements();
  void IssueEvaluation();
  void IssueTraining();
  // Admits again what is outstanding; known groups stay as they are.
  void Reconcile();
  bool Restore();  // after kForgotten; false when the loop is stopping or has failed
  bool AdmitAgain(const std::string& gid, const std::string& blob, Purpose purpose,
                  int64_t& readmitted);
  GroupTask MakeTrainTask(uint64_t cursor);
  // False when the loop is stopping or has failed.
  bool Put(const GroupTask& task, std::string& address);
  // False: not admitted because of the high-water mark, a stop or a failure.
  bool Admit(const GroupTask& task, const std::string& address, AdmitResult& result);
  absl::StatusOr<AdmitResult> AdmitPatiently(const std::string& gid, const std::string& blob,
                                             Purpose purpose);
  bool stopping() const { return stop_.stop_requested() || failure_.failed(); }

  const Options options_;
  const std::vector<PromptRow>& rows_;
  PromptSource& source_;
  std::unique_ptr<WorkQueue> queue_;
  const BlobStore& blobs_;
  GroupBook& book_;
  Evaluation& evaluation_;
  RedisHealth& health_;
  Failure& failure_;
  MetricsRegistry& metrics_;
  Counter issued_;
  std::stop_token stop_;
  const std::function<bool()> stopping_fn_;

  // Carried over from one round to the next when the queue was busy.
  struct Pending {
    GroupTask task;
    std::string address;
  };
  std::optional<Pending> pending_eval_, pending_train_;
  // Made once a step: with schedules it takes the whole configuration through JSON.
  RolloutSection rollout_;
  std::map<std::string, double> reward_weights_;
  int64_t rollout_step_ = -1;
  int64_t seen_recoveries_ = 0;
  bool reconcile_ = false;
  std::chrono::steady_clock::time_point last_reconcile_;

  std::atomic<bool> training_allowed_ = false;
  std::atomic<int64_t> rebuilds_ = 0;
  mutable std::mutex mutex_;
  std::deque<Retirement> retirements_;  // guarded by mutex_
};

}  // namespace tramontane
