#include "services/verifier/ask_stream.h"

#include <utility>

#include "common/clock.h"

namespace tramontane {

AskStream::AskStream(v1::Verifier::Stub& stub, Events events) : events_(std::move(events)) {
  stub.async()->VerifyStream(&context_, this);
  AddHold();  // Send() starts writes from outside of reactions
  StartRead(&result_);
  StartCall();
}

void AskStream::Send(v1::VerifyRequest request) {
  std::lock_guard lock(mutex_);
  if (over_) return;
  outbox_.push_back(std::move(request));
  if (writing_) return;
  writing_ = true;
  StartWrite(&outbox_.front());
}

double AskStream::stuck_seconds() const {
  std::lock_guard lock(mutex_);
  return over_ ? SecondsSince(over_since_) : 0;
}

void AskStream::OnReadDone(bool ok) {
  if (ok) {
    events_.on_result(result_);
    result_.Clear();
    StartRead(&result_);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    over_ = true;
    over_since_ = std::chrono::steady_clock::now();
  }
  RemoveHold();
}

void AskStream::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  outbox_.pop_front();
  writing_ = ok && !over_ && !outbox_.empty();
  if (writing_) StartWrite(&outbox_.front());
}

void AskStream::OnDone(const grpc::Status& status) {
  const auto on_end = std::move(events_.on_end);
  on_end(status);  // `this` may be gone afterwards
}

}  // namespace tramontane
