// Requests that were given up: counted, logged, the newest kept for `tramontane status`. One thread
// at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "common/metrics.h"
#include "common/rollout.h"
#include "services/verifier/verify_job.h"

namespace tramontane {

class DeadLetters {
 public:
  DeadLetters(std::string verifier, MetricsRegistry& metrics);

  void Add(const VerifyJob& job, const std::string& reason);
  // {"total", "newest": [{"request", "tries", "reason"}]}
  Json State() const;

 private:
  const std::string verifier_;
  Counter counter_;
  int64_t total_ = 0;
  std::deque<Json> newest_;
};

}  // namespace tramontane
