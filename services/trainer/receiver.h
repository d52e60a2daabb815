// One generator as a receiver of weights: a thread that brings it to the newest version, whenever
// there is a newer one, and tries again when it fails. A dead generator holds up its own thread only.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "services/handshake.h"
#include "tramontane/v1/generator.grpc.pb.h"

namespace tramontane {

struct ReceiverInfo {
  std::string generator_id;
  std::string incarnation;
  std::string address;
  std::string host_id;
};

// What is offered now; immutable.
struct Offer {
  uint64_t sequence = 0;  // rises with every publication
  int64_t version = 0;
  int64_t trainer_epoch = 0;
  uint64_t payload_bytes = 0;
  v1::PrepareWeightsRequest shared_memory, tcp;  // complete requests; empty when not offered so
};
using OfferPtr = std::shared_ptr<const Offer>;

struct PublishMetrics {
  explicit PublishMetrics(MetricsRegistry& metrics);
  Histogram prepare_seconds, commit_seconds;
  Counter prepare_failures, commit_failures, bytes;
};

class Receiver {
 public:
  struct Options {
    ReceiverInfo info;
    bool shares_memory = false;
    WeightsSection weights;
  };
  // `newest` gives the current offer (null: none yet); `on_served` is called after every commit.
  // Both may be called from the receiver's thread; `metrics` outlives it.
  Receiver(Options options, std::function<OfferPtr()> newest, std::function<void()> on_served,
           const PublishMetrics& metrics);
  ~Receiver();  // cancels a call in flight

  void Wake();  // a new offer exists
  const ReceiverInfo& info() const { return options_.info; }
  int64_t served_version() const;  // committed by this trainer; -1 before the first
  // Of the newest commit, in nats; empty before the first.
  std::optional<double> probe_gap() const;
  // Why the last attempt failed; OK when it did not.
  absl::Status last_error() const;

 private:
  void Loop();
  bool WaitForOffer(uint64_t served_sequence, OfferPtr& offer);
  absl::Status Bring(const Offer& offer);
  absl::Status Prepare(const Offer& offer);
  absl::Status Commit(const Offer& offer);
  absl::Status Finish(const grpc::Status& status, const std::string& phase);
  grpc::ClientContext& NewCall(double timeout_s);
  void EndCall();

  const Options options_;
  const std::function<OfferPtr()> newest_;
  const std::function<void()> on_served_;
  PublishMetrics metrics_;
  std::unique_ptr<v1::Generator::Stub> generator_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_.
  bool stopping_ = false;
  int64_t served_version_ = -1;
  std::optional<double> probe_gap_;
  absl::Status last_error_;
  std::unique_ptr<grpc::ClientContext> call_;  // in flight
  std::thread thread_;
};

}  // namespace tramontane
