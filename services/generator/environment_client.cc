#include "services/generator/environment_client.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "common/clock.h"
#include "common/status.h"
#include "services/convert.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

constexpr double kFirstRetryS = 0.05, kLongestRetryS = 2;

EnvironmentObservation FromProto(const v1::Observation& seen) {
  return {seen.text(), {seen.tokens().begin(), seen.tokens().end()}};
}

absl::StatusOr<EnvironmentStep> FromProto(const v1::StepReply& reply) {
  EnvironmentStep step;
  step.observation = FromProto(reply.observation());
  if (reply.has_reward() && !std::isfinite(reply.reward()))
    return absl::DataLossError("the reward is not finite");
  step.reward = reply.reward();
  step.done = reply.done();
  step.correct = reply.correct();
  step.feedback = reply.feedback();
  for (const auto& [name, value] : reply.metrics()) {
    if (!std::isfinite(value)) return absl::DataLossError("metrics: " + name + " is not finite");
    step.metrics[name] = value;
  }
  return step;
}

}  // namespace

struct EnvironmentClient::Call {
  std::string what;
  Attempt attempt;
  std::function<void(absl::Status)> done;
  std::unique_ptr<grpc::ClientContext> context;
  Steady started = std::chrono::steady_clock::now();
  int32_t attempts = 0;  // that were answered
  int32_t in_a_row = 0;  // failures, for the pause between two
  bool waits = false;    // for its next attempt; guarded by the client's mutex, as is `told`
  bool told = false;
};

EnvironmentClient::EnvironmentClient(std::string name, const VerifierSection& section,
                                     Identity identity, MetricsRegistry& metrics)
    : name_in_run_(std::move(name)),
      section_(section),
      identity_(std::move(identity)),
      retries_(metrics.MakeCounter("tramontane_environment_retries_total",
                                   {{"environment", name_in_run_}})),
      failures_(metrics.MakeCounter("tramontane_environment_failures_total",
                                    {{"environment", name_in_run_}})),
      stub_(v1::Environment::NewStub(MakeChannel(section.address))) {
  for (const char* call : {"describe", "reset", "step", "close"})
    seconds_.emplace(call, metrics.MakeHistogram("tramontane_environment_call_seconds",
                                                 {{"call", call}, {"environment", name_in_run_}}));
  retry_thread_ = std::thread([this] { RetryLoop(); });
  Describe();
}

EnvironmentClient::~EnvironmentClient() {
  std::vector<std::shared_ptr<Call>> idle;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (const auto& [key, call] : open_) {
      if (call->waits) {
        idle.push_back(call);
      } else if (call->context != nullptr) {
        call->context->TryCancel();
      }
    }
    retries_due_.clear();
  }
  changed_.notify_all();
  retry_thread_.join();
  for (const auto& call : idle) Tell(call, absl::CancelledError("the generator is stopping"));
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return open_.empty(); });
}

EnvironmentHooks EnvironmentClient::Hooks() {
  EnvironmentHooks hooks;
  hooks.reset = [this](const std::string& episode, const PromptRow& row, uint64_t seed,
                       std::function<void(absl::StatusOr<EnvironmentObservation>)> done) {
    auto request = std::make_shared<v1::ResetRequest>();
    request->set_episode_id(episode);
    request->set_row_id(row.row_id);
    request->set_prompt(row.prompt);
    request->set_answer(row.answer);
    request->set_seed(seed);
    for (const PromptMessage& message : row.messages) {
      v1::Message& out = *request->add_messages();
      out.set_role(message.role);
      out.set_content(message.content);
    }
    if (!row.params.empty()) {
      absl::StatusOr<google::protobuf::Struct> params = ToStruct(row.params);
      if (!params.ok()) return done(Annotate(params.status(), "params"));
      *request->mutable_params() = *std::move(params);
    }
    auto reply = std::make_shared<v1::ResetReply>();
    Ask(
        "reset",
        [this, request, reply](grpc::ClientContext* context, auto told) {
          stub_->async()->Reset(context, request.get(), reply.get(), std::move(told));
        },
        [request, reply, done = std::move(done)](const absl::Status& status) {
          if (!status.ok()) return done(status);
          done(FromProto(reply->observation()));
        });
  };
  hooks.step = [this](const std::string& episode, int32_t turn, const Rollout& action,
                      std::function<void(absl::StatusOr<EnvironmentStep>)> done) {
    auto request = std::make_shared<v1::StepRequest>();
    request->set_episode_id(episode);
    request->set_turn(static_cast<uint32_t>(turn));
    request->set_action(action.text);
    request->mutable_tokens()->Add(action.tokens.begin(), action.tokens.end());
    request->set_finish_reason(ToProto(action.finish_reason));
    auto reply = std::make_shared<v1::StepReply>();
    Ask(
        "step",
        [this, request, reply](grpc::ClientContext* context, auto told) {
          stub_->async()->Step(context, request.get(), reply.get(), std::move(told));
        },
        [request, reply, done = std::move(done)](const absl::Status& status) {
          if (!status.ok()) return done(status);
          done(FromProto(*reply));
        });
  };
  hooks.close = [this](const std::string& episode) {
    auto request = std::make_shared<v1::CloseRequest>();
    request->set_episode_id(episode);
    auto reply = std::make_shared<v1::CloseReply>();
    Ask(
        "close",
        [this, request, reply](grpc::ClientContext* context, auto told) {
          stub_->async()->Close(context, request.get(), reply.get(), std::move(told));
        },
        [request, reply](const absl::Status&) {});
  };
  hooks.name = [this] {
    std::lock_guard lock(mutex_);
    return name_.value_or(EnvironmentName());
  };
  return hooks;
}

// Before anything else is answered: verdicts bear its name.
void EnvironmentClient::Describe() {
  auto request = std::make_shared<v1::DescribeEnvironmentRequest>();
  *request->mutable_handshake() = MakeHandshake(identity_);
  auto reply = std::make_shared<v1::EnvironmentDescription>();
  Ask(
      "describe",
      [this, request, reply](grpc::ClientContext* context, auto told) {
        stub_->async()->Describe(context, request.get(), reply.get(), std::move(told));
      },
      [this, request, reply](absl::Status status) {
        if (status.ok()) status = CheckDescription(*reply);
        {
          std::lock_guard lock(mutex_);
          described_ = status;
          name_ = EnvironmentName{reply->name(), reply->version(), reply->digest()};
        }
        changed_.notify_all();
      });
}

absl::Status EnvironmentClient::CheckDescription(
    const v1::EnvironmentDescription& description) const {
  RETURN_IF_ERROR(CheckHandshake(description.handshake(), identity_, section_.address));
  for (const auto& [field, pin, own] :
       {std::tuple{"version", section_.version, description.version()},
        {"digest", section_.digest, description.digest()}}) {
    if (pin.empty() || pin == own) continue;
    return absl::FailedPreconditionError("verifiers." + name_in_run_ + "." + field + " pins " +
                                         pin + ", " + section_.address + " has " + own);
  }
  return absl::OkStatus();
}

absl::Status EnvironmentClient::WaitUntilReady(double timeout_s) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(timeout_s),
                    [this] { return name_.has_value() || stopping_; });
  return described_;
}

double EnvironmentClient::AwaySeconds() const {
  std::lock_guard lock(mutex_);
  return away_since_ ? SecondsSince(*away_since_) : 0;
}

void EnvironmentClient::Ask(const std::string& what, Attempt attempt,
                            std::function<void(absl::Status)> done) {
  auto call = std::make_shared<Call>();
  call->what = what;
  call->attempt = std::move(attempt);
  call->done = std::move(done);
  Start(call);
}

void EnvironmentClient::Start(const std::shared_ptr<Call>& call) {
  bool stopping;
  {
    std::lock_guard lock(mutex_);
    stopping = stopping_;
    open_.emplace(call.get(), call);
    call->waits = false;
    if (!stopping) {
      call->context = std::make_unique<grpc::ClientContext>();
      SetDeadline(*call->context, section_.request_timeout_s);
    }
  }
  if (stopping) return Tell(call, absl::CancelledError("the generator is stopping"));
  call->attempt(call->context.get(),
                [this, call](const grpc::Status& status) { OnStatus(call, status); });
}

void EnvironmentClient::OnStatus(const std::shared_ptr<Call>& call, const grpc::Status& status) {
  absl::Status result = FromGrpc(status);
  const bool away = absl::IsUnavailable(result);
  const bool passing = away || absl::IsDeadlineExceeded(result) || absl::IsInternal(result) ||
                       absl::IsResourceExhausted(result) || absl::IsUnknown(result);
  call->attempts += away || absl::IsResourceExhausted(result) ? 0 : 1;
  bool again;
  std::unique_ptr<grpc::ClientContext> finished;
  {
    std::lock_guard lock(mutex_);
    finished = std::move(call->context);
    if (stopping_ && !result.ok()) result = absl::CancelledError("the generator is stopping");
    again =
        passing && !stopping_ && call->attempts < section_.max_attempts && call->what != "close";
    if (!away) away_since_.reset();
    if (away && !away_since_) away_since_ = std::chrono::steady_clock::now();
  }
  // Before anybody can think the call over: it holds the channel, whose last owner must not be a
  // thread of gRPC's own.
  finished.reset();
  if (again) {
    retries_.Add();
    return Later(call, std::min(kLongestRetryS, kFirstRetryS * std::pow(2, call->in_a_row++)));
  }
  seconds_.at(call->what).Observe(SecondsSince(call->started));
  if (!result.ok() && call->what != "close") failures_.Add();
  Tell(call, result);
}

// Once; the call is open until its callback has returned.
void EnvironmentClient::Tell(const std::shared_ptr<Call>& call, const absl::Status& status) {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(call->told, true)) return;
  }
  call->done(status);
  std::lock_guard lock(mutex_);
  open_.erase(call.get());
  changed_.notify_all();  // under the lock: whoever waits for it may destroy it all
}

void EnvironmentClient::Later(const std::shared_ptr<Call>& call, double seconds) {
  const Steady due = std::chrono::steady_clock::now() +
                     std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
  {
    std::lock_guard lock(mutex_);
    if (!stopping_) {
      call->waits = true;
      retries_due_.emplace(due, call);
      changed_.notify_all();
      return;
    }
  }
  Tell(call, absl::CancelledError("the generator is stopping"));
}

void EnvironmentClient::RetryLoop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Steady now = std::chrono::steady_clock::now();
    if (retries_due_.empty() || retries_due_.begin()->first > now) {
      const Steady until =
          retries_due_.empty() ? now + std::chrono::seconds(1) : retries_due_.begin()->first;
      changed_.wait_until(lock, until);
      continue;
    }
    const std::shared_ptr<Call> call = retries_due_.begin()->second;
    retries_due_.erase(retries_due_.begin());
    lock.unlock();
    Start(call);
    lock.lock();
  }
}

}  // namespace tramontane
