#include "services/verifier/verifier_client.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "services/rpc.h"
#include "services/verifier/verify_request.h"

namespace tramontane {
namespace {

// Beyond the deadlines that the service keeps by itself.
constexpr double kTransitS = 2;
// A call that can be read no more and does not end by itself.
constexpr double kStuckS = 0.2;
// An attempt may wait for the requests of other clients before its execution clock starts.
constexpr double kQueueShare = 4;
constexpr size_t kMaxWaiting = 1 << 16;
constexpr std::chrono::milliseconds kLongestWait(500), kOpenWait(100);

// A server that is stopped ends the calls it holds as CANCELLED, or in good order: either way it is
// gone. Nobody cancels from this side.
bool Unreachable(const grpc::Status& status) {
  return status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::CANCELLED;
}

std::string Words(const grpc::Status& status) {
  if (status.ok()) return "the verifier ended the stream";
  return absl::StatusCodeToString(FromGrpc(status).code()) + ": " + status.error_message();
}

Verdict InfraFailure(const std::string& reason) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.feedback = reason;
  return verdict;
}

std::vector<VerifyJob> Only(VerifyJob job) {
  std::vector<VerifyJob> jobs;
  jobs.push_back(std::move(job));
  return jobs;
}

v1::VerifyRequest CancelOf(const std::string& request_id) {
  v1::VerifyRequest cancel;
  cancel.set_request_id(request_id);
  cancel.set_cancel(true);
  return cancel;
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
      circuit_opened_(
          metrics.MakeCounter("tramontane_verifier_client_outages_total", {{"verifier", name_}})),
      stray_replies_(metrics.MakeCounter("tramontane_verifier_client_stray_replies_total",
                                         {{"verifier", name_}})),
      in_flight_gauge_(
          metrics.MakeGauge("tramontane_verifier_client_in_flight", {{"verifier", name_}})),
      circuit_open_(metrics.MakeGauge("tramontane_verifier_client_away", {{"verifier", name_}})),
      round_trip_seconds_(metrics.MakeHistogram("tramontane_verifier_client_round_trip_seconds",
                                                {{"verifier", name_}})),
      channel_(MakeChannel(section.address)),
      stub_(v1::Verifier::NewStub(channel_)),
      circuit_(options.circuit),
      queue_(section.max_attempts),
      dead_letters_(name_, metrics),
      away_since_ms_(clock.NowMonotonicMs()),
      thread_([this] { Loop(); }) {}

VerifierClient::~VerifierClient() {
  Answers answers;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    if (stream_) stream_->Cancel();
    wake_.notify_all();
    ready_.notify_all();
  }
  thread_.join();  // with the stream: no answer comes any more
  std::vector<VerifyJob> left = queue_.RemoveAll();
  std::ranges::move(gatherer_.RemoveAll(), std::back_inserter(left));
  for (auto& [id, open] : open_) left.push_back(std::move(open.job));
  ConcludeAll(std::move(left), "shutting down", answers);
  Deliver(std::move(answers));
}

void VerifierClient::Verify(const PromptRow& row, const Rollout& rollout,
                            const VerifyTicket& ticket, VerifierPool::Callback callback) {
  VerifyJob job;
  job.callbacks.push_back(std::move(callback));
  job.owner = ticket.owner;
  job.samples = ticket.samples;
  job.sample_index = rollout.sample_index;
  absl::StatusOr<v1::VerifyRequest> request = RequestFor(row, rollout, ticket.gid, section_.params);
  if (request.ok())
    request->mutable_reward_weights()->insert(ticket.reward_weights.begin(),
                                              ticket.reward_weights.end());
  Answers answers;
  {
    std::lock_guard lock(mutex_);
    const std::string refusal = !request.ok() ? "params: " + std::string(request.status().message())
                                : stopping_   ? "shutting down"
                                : queue_.size() >= kMaxWaiting
                                    ? "too many requests wait for this verifier"
                                    : "";
    if (!refusal.empty()) {
      Conclude(job, {InfraFailure(refusal)}, answers);
    } else {
      job.request = *std::move(request);
      queue_.Push(std::move(job));
      SendReady(answers);
    }
  }
  Deliver(std::move(answers));
}

void VerifierClient::Cancel(const std::string& owner) {
  Answers answers;
  {
    std::lock_guard lock(mutex_);
    std::vector<VerifyJob> jobs = queue_.RemoveOwner(owner);
    std::ranges::move(gatherer_.RemoveOwner(owner), std::back_inserter(jobs));
    for (auto it = open_.begin(); it != open_.end();) {
      if (it->second.job.owner != owner) {
        ++it;
        continue;
      }
      if (stream_) stream_->Send(CancelOf(it->first));
      circuit_.OnAbandoned(it->second.ticket);
      jobs.push_back(std::move(it->second.job));
      it = open_.erase(it);
    }
    ConcludeAll(std::move(jobs), "cancelled", answers);
    SendReady(answers);
  }
  Deliver(std::move(answers));
}

void VerifierClient::Deliver(Answers answers) {
  for (Answer& answer : answers) answer.callback(std::move(answer.verdict));
}

void VerifierClient::Loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_ || stream_) {
    Answers answers;
    std::unique_ptr<AskStream> ended;
    if (stream_end_) {
      OnStreamEnd(answers);
      ended = std::move(stream_);
    }
    if (!stopping_) {
      OnTick(answers);
      if (circuit_.ProbeDue(clock_.NowMonotonicMs())) Probe(lock);
      if (!stream_ && CanSend()) OpenStream();
      SendReady(answers);
    }
    if (!answers.empty() || ended) {
      lock.unlock();
      ended.reset();
      Deliver(std::move(answers));
      lock.lock();
    } else if (!stream_end_) {
      wake_.wait_for(lock, UntilNextEvent());
    }
  }
}

void VerifierClient::OpenStream() {
  stream_ = std::make_unique<AskStream>(
      *stub_, AskStream::Events{.on_result =
                                    [this](const v1::VerifyResult& result) {
                                      Answers answers;
                                      {
                                        std::lock_guard lock(mutex_);
                                        OnResult(result, answers);
                                        SendReady(answers);
                                      }
                                      Deliver(std::move(answers));
                                    },
                                .on_end =
                                    [this](const grpc::Status& status) {
                                      std::lock_guard lock(mutex_);
                                      stream_end_ = status;
                                      wake_.notify_one();
                                    }});
}

void VerifierClient::OnTick(Answers& answers) {
  if (stream_ && !stream_end_ && stream_->stuck_seconds() > kStuckS) {
    garbled_ = true;
    stream_->Cancel();
  }
  queue_.TakeDue(clock_.NowMonotonicMs());
  const Steady now = std::chrono::steady_clock::now();
  for (auto it = open_.begin(); it != open_.end();) {
    if (it->second.give_up > now) {
      ++it;
      continue;
    }
    OpenRequest late = std::move(it->second);
    it = open_.erase(it);
    if (stream_) stream_->Send(CancelOf(late.job.request.request_id()));
    const CircuitBreaker::State before = circuit_.state();
    circuit_.OnFailure(late.ticket, /*unreachable=*/false, clock_.NowMonotonicMs());
    NoteCircuit(before);
    Fail(std::move(late.job), Failure::kAttempt, "DEADLINE_EXCEEDED: no answer in time", answers);
  }
  in_flight_gauge_.Set(static_cast<double>(open_.size()));
}

std::chrono::milliseconds VerifierClient::UntilNextEvent() const {
  const int64_t now_ms = clock_.NowMonotonicMs();
  std::chrono::milliseconds wait = kLongestWait;
  const auto until = [&](int64_t then_ms) {
    wait = std::min(wait, std::chrono::milliseconds(std::max<int64_t>(then_ms - now_ms, 1)));
  };
  if (circuit_.state() == CircuitBreaker::State::kProbing) until(circuit_.next_probe_ms());
  if (const auto due = queue_.next_due_ms()) until(*due);
  if (!open_.empty()) wait = std::min(wait, kOpenWait);
  return wait;
}

bool VerifierClient::CanSend() const {
  if (stopping_ || !queue_.ready() || !circuit_.Admits() || open_.size() >= most_open_)
    return false;
  if (queue_.front().suspect) return open_.empty();
  return open_.size() != 1 || !open_.begin()->second.job.suspect;
}

void VerifierClient::SendReady(Answers& answers) {
  if (!stream_ || stream_end_) {
    if (CanSend()) wake_.notify_one();
    return;
  }
  while (CanSend()) {
    if (std::optional<VerifyJob> job = NextJob(answers)) SendOne(*std::move(job));
  }
  in_flight_gauge_.Set(static_cast<double>(open_.size()));
}

// Nothing when the front one waits for the rest of its group, or cannot be sent.
std::optional<VerifyJob> VerifierClient::NextJob(Answers& answers) {
  VerifyJob job = queue_.Pop();
  if (description_ && description_->group_aware() && job.request.group_size() == 0) {
    std::optional<VerifyJob> group = gatherer_.Add(std::move(job));
    if (group) queue_.Push(*std::move(group));
    return std::nullopt;
  }
  const uint64_t most = description_ ? description_->max_request_bytes() : 0;
  if (const std::string refusal = TooLarge(job.request, most); !refusal.empty()) {
    ConcludeAll(Only(std::move(job)), refusal, answers);
    return std::nullopt;
  }
  return job;
}

void VerifierClient::SendOne(VerifyJob job) {
  const double queue_deadline_s = kQueueShare * section_.request_timeout_s;
  const double patience_s = queue_deadline_s + section_.request_timeout_s + kTransitS;
  job.request.set_queue_deadline_s(queue_deadline_s);
  job.request.set_exec_timeout_s(section_.request_timeout_s);
  OpenRequest open;
  open.ticket = circuit_.OnSent();
  open.start = std::chrono::steady_clock::now();
  open.give_up = open.start + std::chrono::milliseconds(static_cast<int64_t>(patience_s * 1e3));
  stream_->Send(job.request);
  std::string id = job.request.request_id();
  open.job = std::move(job);
  open_.emplace(std::move(id), std::move(open));
}

void VerifierClient::OnResult(const v1::VerifyResult& result, Answers& answers) {
  if (stopping_) return;
  auto it = open_.find(result.request_id());
  // With one question open a wrong name on the answer is still the answer to that one.
  if (it == open_.end() && open_.size() == 1) it = open_.begin();
  if (it == open_.end()) {  // late, or invented; whoever misses an answer gives up in time
    stray_replies_.Add();
    return;
  }
  OpenRequest open = std::move(it->second);
  open_.erase(it);
  Settle(std::move(open), result, answers);
}

void VerifierClient::Settle(OpenRequest open, const v1::VerifyResult& result, Answers& answers) {
  const CircuitBreaker::State before = circuit_.state();
  round_trip_seconds_.Observe(SecondsSince(open.start));
  CheckedReply reply =
      CheckReply(result, open.job.request, description_.value_or(v1::VerifierDescription{}));
  if (const absl::Status pin = CheckPin(result.version(), result.digest()); !pin.ok()) {
    reply = {ReplyKind::kRetry, {}, std::string(pin.message())};
    last_error_ = pin;
  } else {
    NoteDigest(result);
  }
  ApplyTimeoutReward(reply.verdicts);
  if (reply.kind == ReplyKind::kRetry) {
    circuit_.OnFailure(open.ticket, /*unreachable=*/false, clock_.NowMonotonicMs());
  } else {
    circuit_.OnSuccess(open.ticket);
  }
  NoteCircuit(before);
  switch (reply.kind) {
    case ReplyKind::kVerdict:
      open.job.suspect = false;
      return Conclude(open.job, reply.verdicts, answers);
    case ReplyKind::kBadRow: {
      LogError("verifier_bad_row", {{"verifier", name_},
                                    {"request", open.job.request.request_id()},
                                    {"reason", reply.reason}});
      return ConcludeAll(Only(std::move(open.job)), reply.reason, answers);
    }
    case ReplyKind::kRetry:
      return Fail(std::move(open.job), Failure::kAttempt, reply.reason, answers);
    case ReplyKind::kNotTried:
      return Fail(std::move(open.job), Failure::kRefusal, reply.reason, answers);
  }
}

// What a completion is worth that ran out of time is for its run to say.
void VerifierClient::ApplyTimeoutReward(std::vector<Verdict>& verdicts) const {
  if (!section_.timeout_reward) return;
  for (Verdict& verdict : verdicts) {
    if (verdict.status != VerdictStatus::kTimeout) continue;
    verdict.status = VerdictStatus::kPolicyFailure;
    verdict.score = section_.timeout_reward;
  }
}

void VerifierClient::OnStreamEnd(Answers& answers) {
  grpc::Status status = *std::exchange(stream_end_, std::nullopt);
  if (std::exchange(garbled_, false)) {  // we have ended it, for the verifier's fault
    status = grpc::Status(grpc::StatusCode::INTERNAL, "the reply is not a message");
  }
  OpenRequests lost = std::exchange(open_, {});
  in_flight_gauge_.Set(0);
  if (lost.empty() || stopping_) {
    open_ = std::move(lost);  // the destructor's
    return;
  }
  const bool unreachable = Unreachable(status), alone = lost.size() == 1;
  const bool crashed = status.error_code() == grpc::StatusCode::UNAVAILABLE;
  const bool full = status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
  const CircuitBreaker::State before = circuit_.state();
  last_error_ = absl::UnavailableError(Words(status));
  if (full) {
    circuit_.OnSuccess(lost.begin()->second.ticket);  // it is there, and says what it can do
  } else {
    circuit_.OnFailure(lost.begin()->second.ticket, unreachable, clock_.NowMonotonicMs());
  }
  NoteCircuit(before);
  const Failure failure = full          ? Failure::kRefusal
                          : crashed     ? (alone ? Failure::kCrashAlone : Failure::kCrash)
                          : unreachable ? Failure::kOutage
                                        : (alone ? Failure::kAttempt : Failure::kBreak);
  for (auto& [id, open] : lost) {
    Fail(std::move(open.job), failure, std::string(last_error_.message()), answers);
  }
}

void VerifierClient::Fail(VerifyJob job, Failure failure, const std::string& reason,
                          Answers& answers) {
  if (last_error_.code() != absl::StatusCode::kFailedPrecondition) {
    last_error_ = absl::UnavailableError(reason);
  }
  std::optional<VerifyJob> dead = queue_.Failed(std::move(job), failure, clock_.NowMonotonicMs());
  if (!dead) {
    retries_.Add();
    return;
  }
  dead_letters_.Add(*dead, reason);
  ConcludeAll(Only(*std::move(dead)), reason, answers);
}

void VerifierClient::ConcludeAll(std::vector<VerifyJob> jobs, const std::string& reason,
                                 Answers& answers) {
  for (VerifyJob& job : jobs) {
    Conclude(job, std::vector<Verdict>(job.callbacks.size(), InfraFailure(reason)), answers);
  }
}

void VerifierClient::Conclude(VerifyJob& job, const std::vector<Verdict>& verdicts,
                              Answers& answers) {
  for (size_t i = 0; i < job.callbacks.size(); ++i) {
    Verdict verdict = verdicts.at(i);
    metrics_
        .MakeCounter("tramontane_verifier_client_verdicts_total",
                     {{"verifier", name_}, {"status", tramontane::ToString(verdict.status)}})
        .Add();
    // Rows know the verifier by its name in the configuration.
    verdict.verifier = name_;
    if (description_) {
      if (verdict.verifier_version.empty()) verdict.verifier_version = description_->version();
      if (verdict.verifier_digest.empty()) verdict.verifier_digest = description_->digest();
    }
    answers.push_back({std::move(job.callbacks[i]), std::move(verdict)});
  }
}

}  // namespace tramontane
