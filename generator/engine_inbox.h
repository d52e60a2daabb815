// Where other threads meet the engine thread: submitted requests, cancellations and one weight
// commit at a time. Bounded by samples waiting; every member says which side calls it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "generator/engine.h"
#include "generator/weight_gate.h"

namespace tramontane {

struct CommitCommand {
  StagedWeights weights;
  std::promise<absl::StatusOr<CommitResult>> reply;
};

// What has arrived since the last Take, in order of arrival.
struct EngineWork {
  std::vector<SampleRequest> requests;
  std::vector<std::string> cancelled;
  std::optional<CommitCommand> commit;
  bool closed = false;
};

class EngineInbox {
 public:
  explicit EngineInbox(int32_t max_waiting_samples) : max_waiting_samples_(max_waiting_samples) {}

  // Any thread. AlreadyExists, ResourceExhausted, or why nothing is served now.
  absl::Status Submit(SampleRequest request);
  void Cancel(const std::string& id);  // unknown ids are ignored
  // Unavailable when closed, or when another commit is under way.
  absl::StatusOr<std::future<absl::StatusOr<CommitResult>>> Commit(StagedWeights weights);
  void Close();

  // Engine thread. Waits up to `patience` for anything to arrive.
  EngineWork Take(std::chrono::milliseconds patience);
  void SetWaiting(int32_t samples);             // samples that wait inside the engine
  void Forget(const std::string& id);           // the request's last sample has finished
  void SetServing(const absl::Status& status);  // not OK: Submit answers with it
  int32_t arrived_samples() const;              // any thread: submitted, not yet taken

 private:
  const int32_t max_waiting_samples_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  // All guarded by mutex_.
  EngineWork work_;
  std::unordered_set<std::string> ids_;
  int32_t arrived_samples_ = 0, waiting_samples_ = 0;
  absl::Status serving_;
};

}  // namespace tramontane
