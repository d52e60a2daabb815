// Hands each weight version to every generator that has announced itself (trainer/run_loop.h).
//
// Publishing copies the payload into the sources (shared memory for generators on this host, TCP
// for others) and returns; one thread per generator does the rest. Late joiners and restarted
// generators get the newest version. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "model/weights/transport.h"
#include "services/trainer/receiver.h"
#include "trainer/run_loop.h"

namespace tramontane {

class Publisher final : public WeightPublisher {
 public:
  struct Options {
    WeightsSection weights;
    Identity identity;
    std::string shared_memory_prefix;  // unique to the run
    std::string tcp_bind = "127.0.0.1:0";
    std::string advertise_host =
        "";  // replaces the host of the TCP source's address; empty: as bound
    std::string host_id;
    double expire_after_s = 10;  // a generator that has not announced itself for so long is gone
  };
  // `metrics` outlives the publisher.
  static absl::StatusOr<std::unique_ptr<Publisher>> Create(Options options,
                                                           MetricsRegistry& metrics);
  ~Publisher() override;

  absl::Status Publish(const WeightManifest& manifest, const std::vector<char>& payload) override;
  absl::Status WaitForReceiver(int64_t version, double timeout_s) override;
  std::optional<double> ProbeGap() const override;

  // A generator says that it is there; a new incarnation or address starts it afresh.
  void Announced(const ReceiverInfo& info);
  // A goodbye of an earlier incarnation that arrives late is ignored.
  void Left(const std::string& generator_id, const std::string& incarnation);

  struct Newest {
    int64_t version = -1;
    int64_t trainer_epoch = 0;
  };
  Newest newest() const;
  // Version served by each known generator; -1: none of this trainer's yet.
  std::map<std::string, int64_t> generator_versions() const;

 private:
  struct Entry {
    std::shared_ptr<Receiver> receiver;
    std::chrono::steady_clock::time_point seen;
  };

  Publisher(Options options, MetricsRegistry& metrics);
  // These two with mutex_ held. Receivers are destroyed by the caller, without the lock: that
  // joins their threads.
  std::vector<std::shared_ptr<Receiver>> TakeExpired();
  void UpdateGauges();
  OfferPtr CurrentOffer() const;
  void OnServed();

  const Options options_;
  PublishMetrics publish_metrics_;
  Gauge announced_, lag_;
  std::unique_ptr<WeightSource> shared_memory_, tcp_;

  mutable std::mutex mutex_;
  std::condition_variable served_;
  std::map<std::string, Entry> receivers_;  // by generator id; guarded by mutex_

  // A lock of its own, and the innermost: receivers ask for the offer under their own locks.
  mutable std::mutex offer_mutex_;
  OfferPtr offer_;  // guarded by offer_mutex_
};

}  // namespace tramontane
