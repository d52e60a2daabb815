// Takes verification requests, runs a Grader on a few worker threads and hands out results: the
// verifier service without its transport.
//
// Bounded: at most `max_waiting` requests wait; one more is OVERLOADED. Idempotent: a request seen
// before (same id, same content) gets its first verdict, a repeat of one in progress joins it.
// The execution clock starts when a worker takes the request; waiting is measured apart. A grader
// is told when its time is over or nobody waits any more (GradeRequest::stop).
//
// All members may be called from any thread and none blocks, but Drain and the destructor.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/mailbox.h"
#include "common/metrics.h"
#include "tramontane/v1/verifier.pb.h"
#include "verifier/grader.h"

namespace tramontane {

struct ScoringOptions {
  int32_t threads = 1;
  int32_t max_waiting = 4096;
  int32_t max_remembered = 16384;  // finished verdicts kept for repeats
  std::string tier = "process";    // that contains what the grader runs
};

class ScoringDesk {
 public:
  // Called exactly once, from a worker thread or before Submit returns. Must not block.
  using Done = std::function<void(const v1::VerifyResult&)>;

  ScoringDesk(std::shared_ptr<const Grader> grader, ScoringOptions options,
              MetricsRegistry& metrics);
  ~ScoringDesk();  // finishes what it holds
  ScoringDesk(const ScoringDesk&) = delete;
  ScoringDesk& operator=(const ScoringDesk&) = delete;

  void Submit(const v1::VerifyRequest& request, Done done);
  // Everybody who waits for the id gets CANCELLED, whatever the content. A finished, unknown or
  // empty id is fine.
  void Cancel(const std::string& request_id);
  // Refuses further requests (OVERLOADED) and finishes what it holds.
  void Drain();

  int64_t waiting() const;
  int64_t finished() const { return finished_.load(); }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Entry {
    v1::VerifyRequest request;
    std::vector<Done> waiters;
    v1::VerifyResult result;
    bool done = false;
    std::atomic<bool> given_up = false;  // nobody waits for its execution: cancelled, or done
    Time submitted;
  };
  using EntryPtr = std::shared_ptr<Entry>;

  void Work();
  v1::VerifyResult Run(const Entry& entry, double queue_seconds) const;
  v1::VerifyResult Blank(const std::string& request_id, v1::VerifyStatus status) const;
  void Finish(const std::string& key, const EntryPtr& entry, v1::VerifyResult result);
  void Remember(const std::string& key);  // mutex_ held

  const std::shared_ptr<const Grader> grader_;
  const ScoringOptions options_;
  Histogram queue_seconds_, exec_seconds_;
  Gauge in_flight_;
  Counter waited_for_requests_;
  std::map<int, Counter> results_;  // by v1::VerifyStatus; complete once constructed

  mutable std::mutex mutex_;
  std::unordered_map<std::string, EntryPtr> entries_;                  // by id and content
  std::unordered_multimap<std::string, std::string> unfinished_keys_;  // by id
  std::deque<std::string> remembered_;  // keys of done ones, oldest first

  std::atomic<uint64_t> anonymous_ = 0;
  std::atomic<int64_t> finished_ = 0;
  Mailbox<std::pair<std::string, EntryPtr>> queue_;
  std::vector<std::thread> workers_;
};

}  // namespace tramontane
