// The part of VerifierClient that knows who the service is: it asks while the service is away,
// holds it to the pinned version and digest, notes when it changes, and tells how things stand.
#include <algorithm>
#include <utility>

#include "common/log.h"
#include "services/rpc.h"
#include "services/verifier/health_probe.h"
#include "services/verifier/verifier_client.h"

namespace tramontane {
namespace {

constexpr double kProbeTimeoutS = 2;
// Requests open for each that the service can work on: one being worked on, one at hand.
constexpr size_t kOpenPerSlot = 2, kMostOpen = 256;

const char* ToString(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kProbing:
      return "waiting";
    case CircuitBreaker::State::kTrial:
      return "trial";
    case CircuitBreaker::State::kClosed:
      return "serving";
  }
  return "";
}

}  // namespace

Json VerifierClient::State() const {
  std::lock_guard lock(mutex_);
  const bool refused = circuit_.state() != CircuitBreaker::State::kClosed &&
                       last_error_.code() == absl::StatusCode::kFailedPrecondition;
  Json state = {{"address", section_.address},
                {"state", refused ? "refused" : ToString(circuit_.state())},
                {"in_flight", open_.size()},
                {"waiting", queue_.size()},
                {"failures_in_a_row", circuit_.failures_in_a_row()},
                {"outages", circuit_.times_opened()},
                {"last_error", std::string(last_error_.message())},
                {"dead_letters", dead_letters_.State()}};
  if (description_) {
    state["name"] = description_->name();
    state["version"] = description_->version();
    state["digest"] = description_->digest();
    state["capacity"] = description_->capacity();
    state["group_aware"] = description_->group_aware();
    state["tier"] = description_->tier();
  }
  return state;
}

size_t VerifierClient::waiting() const {
  std::lock_guard lock(mutex_);
  return queue_.size();
}

double VerifierClient::WaitingSeconds() const {
  std::lock_guard lock(mutex_);
  // At a trial it is the next request that will tell; without one nobody waits.
  const bool idle = circuit_.state() == CircuitBreaker::State::kTrial && !queue_.ready();
  if (away_since_ms_ == 0 || idle) return 0;
  return static_cast<double>(std::max<int64_t>(clock_.NowMonotonicMs() - away_since_ms_, 1)) / 1e3;
}

absl::Status VerifierClient::WaitUntilReady(std::chrono::steady_clock::time_point end) {
  std::unique_lock lock(mutex_);
  ready_.wait_until(lock, end, [this] {
    return stopping_ || description_ || last_error_.code() == absl::StatusCode::kFailedPrecondition;
  });
  if (description_) return absl::OkStatus();
  return absl::Status(last_error_.code(), "verifier " + name_ + " at " + section_.address + ": " +
                                              std::string(last_error_.message()));
}

void VerifierClient::Probe(std::unique_lock<std::mutex>& lock) {
  const CircuitBreaker::State before = circuit_.state();
  lock.unlock();
  absl::StatusOr<v1::VerifierDescription> description = AskWhoItIs();
  lock.lock();
  if (description.ok()) {
    Describe(*description);
    if (last_error_.code() == absl::StatusCode::kFailedPrecondition) last_error_ = absl::OkStatus();
  } else {
    if (description.status().code() == absl::StatusCode::kFailedPrecondition &&
        last_error_ != description.status()) {
      LogError("verifier_refused", {{"verifier", name_}, {"error", description.status()}});
    }
    last_error_ = description.status();
  }
  circuit_.OnProbe(description.ok(), clock_.NowMonotonicMs());
  NoteCircuit(before);
  ready_.notify_all();
}

absl::StatusOr<v1::VerifierDescription> VerifierClient::AskWhoItIs() {
  if (absl::Status health = CheckHealth(channel_, "tramontane.v1.Verifier", kProbeTimeoutS);
      !health.ok()) {
    return health;
  }
  grpc::ClientContext context;
  SetDeadline(context, kProbeTimeoutS);
  v1::DescribeRequest request;
  *request.mutable_handshake() = MakeHandshake(identity_);
  v1::VerifierDescription description;
  const grpc::Status status = stub_->Describe(&context, request, &description);
  if (!status.ok()) return FromGrpc(status);
  if (absl::Status skew = CheckHandshake(description.handshake(), Identity{}, "verifier " + name_);
      !skew.ok()) {
    return skew;
  }
  if (absl::Status pin = CheckPin(description.version(), description.digest()); !pin.ok())
    return pin;
  return description;
}

// What is not pinned, or not said in a reply, agrees.
absl::Status VerifierClient::CheckPin(const std::string& version, const std::string& digest) const {
  const auto differs = [](const std::string& pinned, const std::string& said) {
    return !pinned.empty() && !said.empty() && pinned != said;
  };
  if (differs(section_.version, version)) {
    return absl::FailedPreconditionError("verifiers." + name_ + ".version pins " +
                                         section_.version + ", the service is " + version);
  }
  if (differs(section_.digest, digest)) {
    return absl::FailedPreconditionError("verifiers." + name_ + ".digest pins " + section_.digest +
                                         ", the service has " + digest);
  }
  return absl::OkStatus();
}

// A service may have been replaced while nobody asked; its next reply tells.
void VerifierClient::NoteDigest(const v1::VerifyResult& result) {
  if (!description_ || result.digest().empty() || result.digest() == description_->digest()) return;
  v1::VerifierDescription description = *description_;
  description.set_version(result.version());
  description.set_digest(result.digest());
  Describe(description);
}

void VerifierClient::Describe(const v1::VerifierDescription& description) {
  if (description_ && description_->digest() != description.digest()) {
    digest_changes_.Add();
    LogWarn("verifier_changed", {{"verifier", name_},
                                 {"old_version", description_->version()},
                                 {"new_version", description.version()},
                                 {"old_digest", description_->digest()},
                                 {"new_digest", description.digest()}});
  } else if (!description_) {
    LogInfo("verifier_ready", {{"verifier", name_},
                               {"address", section_.address},
                               {"version", description.version()},
                               {"digest", description.digest()}});
  }
  description_ = description;
  most_open_ = std::min(kOpenPerSlot * std::max<size_t>(description.capacity(), 1), kMostOpen);
}

void VerifierClient::NoteCircuit(CircuitBreaker::State before) {
  const CircuitBreaker::State now = circuit_.state();
  if (now == before) return;
  if (now == CircuitBreaker::State::kClosed) {
    const int64_t away_ms = clock_.NowMonotonicMs() - away_since_ms_;
    if (circuit_.times_opened() > 0) {
      LogInfo("verifier_back",
              {{"verifier", name_}, {"away_seconds", static_cast<double>(away_ms) / 1e3}});
    }
    away_since_ms_ = 0;
  } else if (now == CircuitBreaker::State::kProbing) {
    circuit_opened_.Add();
    if (away_since_ms_ == 0) away_since_ms_ = clock_.NowMonotonicMs();
    LogWarn("verifier_away", {{"verifier", name_},
                              {"address", section_.address},
                              {"failures_in_a_row", circuit_.failures_in_a_row()},
                              {"waiting", queue_.size()},
                              {"last_error", std::string(last_error_.message())}});
  }
  circuit_open_.Set(now == CircuitBreaker::State::kClosed ? 0 : 1);
}

}  // namespace tramontane
