// Tells the trainer, every few seconds, that this generator exists and which version it serves.
// The trainer being away is no reason to stop: it goes on trying.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "services/handshake.h"
#include "services/wait_clock.h"
#include "tramontane/v1/trainer.grpc.pb.h"

namespace tramontane {

class Announcer {
 public:
  struct Options {
    std::string trainer_address;
    std::string generator_id;
    std::string incarnation;
    std::string own_address;  // where the trainer reaches this generator
    std::string host_id;
    Identity identity;
  };
  // `version` says what is served now; `on_skew` is called when the trainer refuses the handshake:
  // this process belongs to another run and cannot go on. Both may be called from its thread.
  Announcer(Options options, std::function<int64_t()> version,
            std::function<void(const absl::Status&)> on_skew);
  ~Announcer();  // says goodbye, within a second

  std::map<std::string, double> WaitingSeconds() const { return waits_.Seconds(); }

 private:
  void Loop();
  // Returns the pause until the next one.
  double Announce(bool leaving);

  const Options options_;
  const std::function<int64_t()> version_;
  const std::function<void(const absl::Status&)> on_skew_;
  WaitClock waits_;
  std::unique_ptr<v1::Trainer::Stub> trainer_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tramontane
