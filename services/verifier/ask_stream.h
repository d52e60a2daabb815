// One VerifyStream call from the asking side: requests go out in order, results come back in any.
// Members may be called from any thread; none blocks. The owner destroys it after `on_end`, and on
// a thread that is not gRPC's: the call holds on to the channel, and a channel that one of gRPC's
// own threads lets go of last makes that thread wait for itself.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <functional>
#include <mutex>

#include "tramontane/v1/verifier.grpc.pb.h"

namespace tramontane {

class AskStream final : private grpc::ClientBidiReactor<v1::VerifyRequest, v1::VerifyResult> {
 public:
  struct Events {
    std::function<void(const v1::VerifyResult&)> on_result;  // one at a time
    std::function<void(const grpc::Status&)> on_end;         // once, last of all
  };
  AskStream(v1::Verifier::Stub& stub, Events events);

  // After the end: nothing happens; `on_end` has told that no answer comes.
  void Send(v1::VerifyRequest request);
  void Cancel() { context_.TryCancel(); }
  // Reading failed this long ago and the call has not ended: what came was no message. 0: all is
  // well.
  double stuck_seconds() const;

 private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  grpc::ClientContext context_;
  Events events_;
  v1::VerifyResult result_;
  mutable std::mutex mutex_;
  std::deque<v1::VerifyRequest> outbox_;  // the front one is being written while `writing_`
  bool writing_ = false, over_ = false;
  std::chrono::steady_clock::time_point over_since_;
};

}  // namespace tramontane
