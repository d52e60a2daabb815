// Hands weight versions to the publisher on a thread of its own, so that training never waits for a
// slow receiver. The newest version wins; those in between are skipped. A version that cannot be
// offered (shared memory is full) is tried again; when nothing could be offered for long, the run
// ends, because samples of the old weights only grow too old. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "model/weights/manifest.h"
#include "trainer/loop/loop_shared.h"
#include "trainer/run_loop.h"

namespace tramontane {

class PublishThread {
 public:
  // Both outlive it.
  PublishThread(WeightPublisher& publisher, Failure& failure, double patience_s = 30);
  ~PublishThread();  // an offer not begun by then is dropped

  void Offer(WeightManifest manifest, std::vector<char> payload);
  int64_t published_version() const;  // handed to the publisher; -1: none
  int64_t published_count() const;

 private:
  struct Version {
    WeightManifest manifest;
    std::vector<char> payload;
  };
  void Run(std::stop_token stop);
  std::optional<Version> Next(std::stop_token stop);
  // False when a newer version is there, or the thread is to end.
  bool Pause(std::stop_token stop);

  WeightPublisher& publisher_;
  Failure& failure_;
  const double patience_s_;
  mutable std::mutex mutex_;
  std::condition_variable_any offered_;
  std::optional<Version> next_;  // guarded by mutex_
  int64_t published_version_ = -1, published_count_ = 0;
  std::jthread thread_;
};

}  // namespace tramontane
