#include "services/generator/announcer.h"

#include <algorithm>
#include <chrono>

#include "common/log.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

constexpr double kCallTimeoutS = 2;
constexpr double kGoodbyeTimeoutS = 1;
constexpr double kRetryS = 0.5;
constexpr double kShortestPauseS = 0.1, kLongestPauseS = 30;

}  // namespace

Announcer::Announcer(Options options, std::function<int64_t()> version,
                     std::function<void(const absl::Status&)> on_skew)
    : options_(std::move(options)),
      version_(std::move(version)),
      on_skew_(std::move(on_skew)),
      trainer_(v1::Trainer::NewStub(MakeChannel(options_.trainer_address))),
      thread_([this] { Loop(); }) {}

Announcer::~Announcer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Announcer::Loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    const double pause_s = Announce(/*leaving=*/false);
    lock.lock();
    wake_.wait_for(lock, std::chrono::duration<double>(pause_s), [this] { return stopping_; });
  }
  lock.unlock();
  Announce(/*leaving=*/true);
}

double Announcer::Announce(bool leaving) {
  v1::AnnounceRequest request;
  *request.mutable_handshake() = MakeHandshake(options_.identity);
  request.set_generator_id(options_.generator_id);
  request.set_incarnation(options_.incarnation);
  request.set_address(options_.own_address);
  request.set_weight_version(version_());
  request.set_host_id(options_.host_id);
  request.set_leaving(leaving);
  grpc::ClientContext context;
  SetDeadline(context, leaving ? kGoodbyeTimeoutS : kCallTimeoutS);
  v1::AnnounceReply reply;
  const grpc::Status status = trainer_->Announce(&context, request, &reply);
  if (leaving) return 0;
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) {
    on_skew_(FromGrpc(status));
    return kLongestPauseS;
  }
  const bool was_away = !waits_.Seconds().empty();
  if (!status.ok()) {
    if (!was_away) {
      LogWarn("trainer_away", {{"address", options_.trainer_address}, {"error", FromGrpc(status)}});
    }
    waits_.Set("trainer", true);
    return kRetryS;
  }
  if (was_away) LogInfo("trainer_back", {{"address", options_.trainer_address}});
  waits_.Set("trainer", false);
  return std::clamp(reply.announce_interval_s(), kShortestPauseS, kLongestPauseS);
}

}  // namespace tramontane
