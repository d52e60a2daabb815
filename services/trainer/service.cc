#include "services/trainer/service.h"

#include "services/convert.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

absl::Status CheckAnnouncement(const v1::AnnounceRequest& request) {
  if (request.generator_id().empty()) return absl::InvalidArgumentError("generator_id is empty");
  if (request.leaving()) return absl::OkStatus();
  if (request.incarnation().empty()) return absl::InvalidArgumentError("incarnation is empty");
  if (request.address().empty()) return absl::InvalidArgumentError("address is empty");
  return absl::OkStatus();
}

}  // namespace

TrainerService::TrainerService(std::string process, Identity identity, std::string kind,
                               Publisher& publisher)
    : process_(std::move(process)),
      identity_(std::move(identity)),
      kind_(std::move(kind)),
      publisher_(publisher) {
  before_.phase = "loading";
}

void TrainerService::SetPhase(const std::string& phase) {
  std::lock_guard lock(mutex_);
  before_ = LoopState();
  before_.phase = phase;
}

void TrainerService::SetProgress(int64_t step, int64_t steps) {
  std::lock_guard lock(mutex_);
  before_.step = step;
  before_.steps = steps;
}

void TrainerService::SetLoop(std::function<LoopState()> state) {
  std::lock_guard lock(mutex_);
  loop_state_ = std::move(state);
}

// Called with the lock held, so that the loop outlives the call.
LoopState TrainerService::State() const {
  std::lock_guard lock(mutex_);
  return loop_state_ ? loop_state_() : before_;
}

ProcessStatus TrainerService::Status() const {
  const LoopState state = State();
  ProcessStatus status;
  status.phase = state.phase;
  if (!state.waiting_for.empty()) status.waiting_seconds[state.waiting_for] = state.waiting_since_s;
  status.weight_version = publisher_.newest().version;
  status.detail["step"] = state.step;
  return status;
}

grpc::ServerUnaryReactor* TrainerService::Announce(grpc::CallbackServerContext* context,
                                                   const v1::AnnounceRequest* request,
                                                   v1::AnnounceReply* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = CheckHandshake(request->handshake(), identity_, context->peer());
  if (status.ok()) status = CheckAnnouncement(*request);
  if (!status.ok()) {
    reactor->Finish(ToGrpc(status));
    return reactor;
  }
  if (request->leaving()) {
    publisher_.Left(request->generator_id(), request->incarnation());
  } else {
    publisher_.Announced({.generator_id = request->generator_id(),
                          .incarnation = request->incarnation(),
                          .address = request->address(),
                          .host_id = request->host_id()});
  }
  const Publisher::Newest newest = publisher_.newest();
  *reply->mutable_handshake() = MakeHandshake(identity_);
  reply->set_trainer_epoch(newest.trainer_epoch);
  reply->set_weight_version(newest.version);
  reply->set_announce_interval_s(kAnnounceIntervalS);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* TrainerService::GetState(grpc::CallbackServerContext* context,
                                                   const v1::GetTrainerStateRequest*,
                                                   v1::TrainerState* reply) {
  const LoopState state = State();
  *reply->mutable_process() = ToProto(process_, Status());
  reply->set_step(state.step);
  reply->set_steps(state.steps);
  reply->set_kind(kind_);
  reply->set_trainer_epoch(state.epoch);
  reply->set_groups_issued(state.issued);
  reply->set_groups_running(state.running);
  reply->set_groups_ready(state.ready);
  reply->set_groups_trained(state.trained);
  reply->set_groups_dropped(state.dropped);
  reply->set_mean_reward(state.mean_reward);
  reply->set_mean_staleness_versions(state.mean_staleness_versions);
  if (state.eval_accuracy.has_value()) reply->set_eval_accuracy(*state.eval_accuracy);
  reply->set_busy_seconds(state.busy_seconds);
  reply->set_uptime_seconds(state.uptime_seconds);
  if (state.queue.has_value()) {
    v1::QueueState& queue = *reply->mutable_queue();
    queue.set_waiting(state.queue->waiting);
    queue.set_leased(state.queue->leased);
    queue.set_completed(state.queue->completed);
    queue.set_dead(state.queue->dead);
    queue.set_oldest_waiting_s(state.queue->oldest_waiting_s);
    queue.set_oldest_lease_s(state.queue->oldest_lease_s);
    queue.set_oldest_lease_worker(state.queue->oldest_lease_worker);
  }
  for (const auto& [id, version] : publisher_.generator_versions()) {
    (*reply->mutable_generator_versions())[id] = version;
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace tramontane
