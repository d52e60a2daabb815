#include "services/verifier/verifier_client.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "services/rpc.h"
#include "services/verifier/health_probe.h"

namespace tramontane {
namespace {

constexpr double kProbeTimeoutS = 2;
// Requests in flight for each that the service can work on: one being worked on, one at hand.
constexpr int32_t kInFlightPerSlot = 2;
constexpr int32_t kMostInFlight = 256;
// An attempt may wait for the requests of other clients before its execution clock starts.
constexpr double kQueueShare = 4;
constexpr size_t kMaxWaiting = 1 << 16;
// A request that was in flight at so many crashes is taken to be their cause.
constexpr int32_t kMaxOutages = 10;
// A service that is there and full is given this many pauses of up to kMaxBackoffMs.
constexpr int32_t kMaxRefusals = 30;
constexpr int64_t kFirstBackoffMs = 50, kMaxBackoffMs = 2000;
constexpr std::chrono::milliseconds kLongestWait(500);

// A server that is stopped ends the calls it holds as CANCELLED: nobody cancels from this side.
bool Unreachable(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::CANCELLED;
}

struct LaterFirst {
  template <class Job>
  bool operator()(const Job& a, const Job& b) const {
    return a.due_ms > b.due_ms;
  }
};

const char* ToString(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kProbing: return "waiting";
    case CircuitBreaker::State::kTrial: return "trial";
    case CircuitBreaker::State::kClosed: return "serving";
  }
  return "";
}

}  // namespace

VerifierClient::VerifierClient(std::string name, const VerifierSection& section,
                               const VerifierPoolOptions& options, MetricsRegistry& metrics,
                               const Clock& clock)
    : name_(std::move(name)),
      section_(section),
      identity_(options.identity),
      metrics_(metrics),
      clock_(clock),
      retries_(metrics.MakeCounter("tramontane_verifier_retries_total", {{"verifier", name_}})),
      digest_changes_(metrics.MakeCounter("tramontane_verifier_client_digest_changes_total",
                                          {{"verifier", name_}})),
      circuit_opened_(metrics.MakeCounter("tramontane_verifier_client_outages_total",
                                          {{"verifier", name_}})),
      in_flight_gauge_(
          metrics.MakeGauge("tramontane_verifier_client_in_flight", {{"verifier", name_}})),
      circuit_open_(metrics.MakeGauge("tramontane_verifier_client_away", {{"verifier", name_}})),
      round_trip_seconds_(metrics.MakeHistogram("tramontane_verifier_client_round_trip_seconds",
                                                {{"verifier", name_}})),
      channel_(MakeChannel(section.address)),
      stub_(v1::Verifier::NewStub(channel_)),
      circuit_(options.circuit),
      away_since_ms_(clock.NowMonotonicMs()),
      thread_([this] { Loop(); }) {}

VerifierClient::~VerifierClient() {
  std::vector<Answer> answers;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (const auto& [key, call] : calls_) call->context.TryCancel();
    wake_.notify_all();
    ready_.notify_all();
    ready_.wait(lock, [this] { return calls_.empty(); });
    for (Job& job : pending_) answers.push_back(Conclude(job, InfraFailure("shutting down")));
    for (Job& job : backing_off_) answers.push_back(Conclude(job, InfraFailure("shutting down")));
    pending_.clear();
    backing_off_.clear();
  }
  thread_.join();
  for (Answer& answer : answers) answer.callback(std::move(answer.verdict));
}

void VerifierClient::Verify(v1::VerifyRequest request, VerifierPool::Callback callback) {
  Job job;
  job.request = std::move(request);
  job.callback = std::move(callback);
  std::optional<Answer> refused;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) {
      refused = Conclude(job, InfraFailure("shutting down"));
    } else if (pending_.size() >= kMaxWaiting) {
      refused = Conclude(job, InfraFailure("too many requests wait for this verifier"));
    } else {
      pending_.push_back(std::move(job));
      wake_.notify_one();
    }
  }
  if (refused) refused->callback(std::move(refused->verdict));
}

absl::Status VerifierClient::WaitUntilReady(std::chrono::steady_clock::time_point end) {
  std::unique_lock lock(mutex_);
  ready_.wait_until(lock, end, [this] {
    return stopping_ || description_ ||
           last_error_.code() == absl::StatusCode::kFailedPrecondition;
  });
  if (description_) return absl::OkStatus();
  return absl::Status(last_error_.code(), "verifier " + name_ + " at " + section_.address + ": " +
                                              std::string(last_error_.message()));
}

Json VerifierClient::State() const {
  std::lock_guard lock(mutex_);
  Json state = {{"address", section_.address},
                {"state", ToString(circuit_.state())},
                {"in_flight", calls_.size()},
                {"waiting", pending_.size() + backing_off_.size()},
                {"failures_in_a_row", circuit_.failures_in_a_row()},
                {"outages", circuit_.times_opened()},
                {"last_error", std::string(last_error_.message())}};
  if (description_) {
    state["name"] = description_->name();
    state["version"] = description_->version();
    state["digest"] = description_->digest();
  }
  return state;
}

double VerifierClient::WaitingSeconds() const {
  std::lock_guard lock(mutex_);
  // At a trial it is the next request that will tell; without one nobody waits.
  const bool idle = circuit_.state() == CircuitBreaker::State::kTrial && pending_.empty();
  if (away_since_ms_ == 0 || idle) return 0;
  return static_cast<double>(std::max<int64_t>(clock_.NowMonotonicMs() - away_since_ms_, 1)) / 1e3;
}

void VerifierClient::Loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    TakeDueRetries();
    if (circuit_.ProbeDue(clock_.NowMonotonicMs())) {
      Probe(lock);
    } else if (CanSend()) {
      Send(lock);
    } else {
      wake_.wait_for(lock, UntilNextEvent());
    }
  }
}

std::chrono::milliseconds VerifierClient::UntilNextEvent() const {
  const int64_t now_ms = clock_.NowMonotonicMs();
  std::chrono::milliseconds wait = kLongestWait;
  const auto until = [&](int64_t then_ms) {
    wait = std::min(wait, std::chrono::milliseconds(std::max<int64_t>(then_ms - now_ms, 1)));
  };
  if (circuit_.state() == CircuitBreaker::State::kProbing) until(circuit_.next_probe_ms());
  if (!backing_off_.empty()) until(backing_off_.front().due_ms);
  return wait;
}

void VerifierClient::TakeDueRetries() {
  const int64_t now_ms = clock_.NowMonotonicMs();
  while (!backing_off_.empty() && backing_off_.front().due_ms <= now_ms) {
    std::pop_heap(backing_off_.begin(), backing_off_.end(), LaterFirst{});
    // Oldest work first: its group waits for it.
    pending_.push_front(std::move(backing_off_.back()));
    backing_off_.pop_back();
  }
}

bool VerifierClient::CanSend() const {
  return !pending_.empty() && circuit_.Admits() &&
         calls_.size() < static_cast<size_t>(max_in_flight_);
}

void VerifierClient::Send(std::unique_lock<std::mutex>& lock) {
  auto owned = std::make_unique<Call>();
  Call* const call = owned.get();
  call->job = std::move(pending_.front());
  pending_.pop_front();
  call->ticket = circuit_.OnSent();
  call->start = std::chrono::steady_clock::now();
  const double queue_deadline_s = kQueueShare * section_.request_timeout_s;
  call->job.request.set_queue_deadline_s(queue_deadline_s);
  SetDeadline(call->context, queue_deadline_s + section_.request_timeout_s + kProbeTimeoutS);
  calls_[call] = std::move(owned);
  in_flight_gauge_.Set(static_cast<double>(calls_.size()));
  lock.unlock();
  stub_->async()->Verify(&call->context, &call->job.request, &call->result,
                         [this, call](const grpc::Status& status) { OnReply(call, status); });
  lock.lock();
}

void VerifierClient::OnReply(Call* call, const grpc::Status& status) {
  std::optional<Answer> answer;
  {
    std::lock_guard lock(mutex_);
    answer = Settle(*call, status);
  }
  if (answer) answer->callback(std::move(answer->verdict));
  // The destructor waits for this line, so that no callback outlives the client.
  std::lock_guard lock(mutex_);
  calls_.erase(call);
  in_flight_gauge_.Set(static_cast<double>(calls_.size()));
  wake_.notify_one();
  if (stopping_ && calls_.empty()) ready_.notify_all();
}

std::optional<VerifierClient::Answer> VerifierClient::Settle(Call& call, const grpc::Status& status) {
  const CircuitBreaker::State before = circuit_.state();
  const int64_t now_ms = clock_.NowMonotonicMs();
  if (stopping_) return Conclude(call.job, InfraFailure("shutting down"));
  if (!status.ok()) {
    const std::string reason = absl::StatusCodeToString(FromGrpc(status).code()) + ": " + status.error_message();
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      circuit_.OnSuccess(call.ticket);  // it is there, and says what it can do
      NoteCircuit(before);
      return Fail(std::move(call.job), reason, &Job::refusals);
    }
    last_error_ = absl::UnavailableError(reason);
    circuit_.OnFailure(call.ticket, Unreachable(status), now_ms);
    NoteCircuit(before);
    return Fail(std::move(call.job), reason, Unreachable(status) ? &Job::outages : &Job::attempts);
  }
  round_trip_seconds_.Observe(SecondsSince(call.start));
  CheckedReply reply = CheckReply(call.result, call.job.request.request_id(),
                                  description_.value_or(v1::VerifierDescription{}));
  NoteDigest(call.result);
  if (reply.kind == ReplyKind::kRetry) {
    last_error_ = absl::UnavailableError(reply.reason);
    circuit_.OnFailure(call.ticket, /*unreachable=*/false, now_ms);
  } else {
    circuit_.OnSuccess(call.ticket);
  }
  NoteCircuit(before);
  if (reply.kind == ReplyKind::kVerdict) return Conclude(call.job, std::move(reply.verdict));
  if (reply.kind == ReplyKind::kBadRow) {
    LogError("verifier_bad_row", {{"verifier", name_},
                                  {"request", call.job.request.request_id()},
                                  {"reason", reply.reason}});
    return Conclude(call.job, InfraFailure(reply.reason));
  }
  const bool refused = reply.kind == ReplyKind::kNotTried;
  return Fail(std::move(call.job), reply.reason, refused ? &Job::refusals : &Job::attempts);
}

std::optional<VerifierClient::Answer> VerifierClient::Fail(Job job, const std::string& reason,
                                                           int32_t Job::*count) {
  last_error_ = absl::UnavailableError(reason);
  ++(job.*count);
  if (job.attempts >= section_.max_attempts || job.outages >= kMaxOutages ||
      job.refusals >= kMaxRefusals) {
    LogWarn("verifier_gave_up", {{"verifier", name_},
                                 {"request", job.request.request_id()},
                                 {"attempts", job.attempts},
                                 {"outages", job.outages},
                                 {"refusals", job.refusals},
                                 {"reason", reason}});
    return Conclude(job, InfraFailure(reason));
  }
  retries_.Add();
  // When nobody is there the circuit makes the request wait; no pause of its own comes on top.
  const int64_t pause_ms =
      count == &Job::outages ? 0 : std::min(kFirstBackoffMs << std::min(job.*count, 6), kMaxBackoffMs);
  job.due_ms = clock_.NowMonotonicMs() + pause_ms;
  backing_off_.push_back(std::move(job));
  std::push_heap(backing_off_.begin(), backing_off_.end(), LaterFirst{});
  return std::nullopt;
}

VerifierClient::Answer VerifierClient::Conclude(Job& job, Verdict verdict) {
  metrics_.MakeCounter("tramontane_verifier_client_verdicts_total",
                       {{"verifier", name_}, {"status", tramontane::ToString(verdict.status)}})
      .Add();
  // Rows know the verifier by its name in the configuration.
  verdict.verifier = name_;
  if (description_) {
    if (verdict.verifier_version.empty()) verdict.verifier_version = description_->version();
    if (verdict.verifier_digest.empty()) verdict.verifier_digest = description_->digest();
  }
  return {std::move(job.callback), std::move(verdict)};
}

Verdict VerifierClient::InfraFailure(const std::string& reason) const {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.feedback = reason;
  return verdict;
}

void VerifierClient::Probe(std::unique_lock<std::mutex>& lock) {
  const CircuitBreaker::State before = circuit_.state();
  lock.unlock();
  absl::StatusOr<v1::VerifierDescription> description = AskWhoItIs();
  lock.lock();
  if (description.ok()) {
    Describe(*description);
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
  return description;
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
  const int64_t slots = std::clamp<int64_t>(description.capacity(), 1, kMostInFlight);
  max_in_flight_ = static_cast<int32_t>(std::min<int64_t>(kInFlightPerSlot * slots, kMostInFlight));
}

void VerifierClient::NoteCircuit(CircuitBreaker::State before) {
  const CircuitBreaker::State now = circuit_.state();
  if (now == before) return;
  if (now == CircuitBreaker::State::kClosed) {
    const int64_t away_ms = clock_.NowMonotonicMs() - away_since_ms_;
    if (circuit_.times_opened() > 0) {
      LogInfo("verifier_back", {{"verifier", name_}, {"away_seconds", static_cast<double>(away_ms) / 1e3}});
    }
    away_since_ms_ = 0;
  } else if (now == CircuitBreaker::State::kProbing) {
    circuit_opened_.Add();
    if (away_since_ms_ == 0) away_since_ms_ = clock_.NowMonotonicMs();
    LogWarn("verifier_away", {{"verifier", name_},
                              {"address", section_.address},
                              {"failures_in_a_row", circuit_.failures_in_a_row()},
                              {"waiting", pending_.size() + backing_off_.size()},
                              {"last_error", std::string(last_error_.message())}});
  }
  circuit_open_.Set(now == CircuitBreaker::State::kClosed ? 0 : 1);
}

}  // namespace tramontane
