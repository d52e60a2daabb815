// Hands weight versions to the publisher on a thread of its own, so that training never waits for a
// slow receiver. The newest version wins; those in between are skipped. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "model/weights/manifest.h"
#include "trainer/run_loop.h"

namespace tramontane {

class PublishThread {
 public:
  explicit PublishThread(WeightPublisher& publisher);
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

  WeightPublisher& publisher_;
  mutable std::mutex mutex_;
  std::condition_variable_any offered_;
  std::optional<Version> next_;  // guarded by mutex_
  int64_t published_version_ = -1, published_count_ = 0;
  std::jthread thread_;
};

}  // namespace tramontane
