// The Trainer service: generators announce themselves here, people ask for the state.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "services/handshake.h"
#include "services/runner.h"
#include "services/trainer/publisher.h"
#include "trainer/run_loop.h"
#include "tramontane/v1/trainer.grpc.pb.h"

namespace tramontane {

class TrainerService final : public v1::Trainer::CallbackService {
 public:
  static constexpr double kAnnounceIntervalS = 2;

  // `kind`: run.kind.
  TrainerService(std::string process, Identity identity, std::string kind, Publisher& publisher);

  // What the process is doing: the run loop's state once there is one, a phase before ("sft").
  void SetPhase(const std::string& phase);
  void SetProgress(int64_t step, int64_t steps);  // within the phase
  void SetLoop(std::function<LoopState()> state);  // empty: the loop is gone
  ProcessStatus Status() const;

  grpc::ServerUnaryReactor* Announce(grpc::CallbackServerContext* context,
                                     const v1::AnnounceRequest* request,
                                     v1::AnnounceReply* reply) override;
  grpc::ServerUnaryReactor* GetState(grpc::CallbackServerContext* context,
                                     const v1::GetTrainerStateRequest* request,
                                     v1::TrainerState* reply) override;

 private:
  LoopState State() const;

  const std::string process_;
  const Identity identity_;
  const std::string kind_;
  Publisher& publisher_;
  mutable std::mutex mutex_;
  LoopState before_;                        // while there is no loop; guarded by mutex_
  std::function<LoopState()> loop_state_;   // guarded by mutex_
};

}  // namespace tramontane
