#include "services/generator/group_worker.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <optional>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/layers.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/record_io.h"
#include "common/status.h"
#include "queue/work_queue.h"
#include "services/generator/live_groups.h"
#include "services/generator/patient_queue.h"
#include "services/wait_clock.h"

namespace tramontane {
namespace {

using std::chrono::milliseconds;

constexpr int kClaimBlockMs = 200;
constexpr milliseconds kTick{200};
// Pushes never fail for want of room: far more than what can be under way at once.
constexpr size_t kRouteCapacity = size_t{1} << 20;
// Groups that wait for verdicts do not count against the engine; this bounds them.
constexpr int32_t kLongestVerdictBacklog = 8;
// A verifier that is replaced while a group is judged has the group judged anew.
constexpr int32_t kMostRescores = 3;

struct SampledItem {
  LiveGroupPtr group;
  int32_t sample_index = 0;
};

enum class End { kComplete, kRelease, kFail };

struct EndedItem {
  LiveGroupPtr group;
  End end = End::kComplete;
  std::string reason;
  int max_deliveries = 0;  // kFail
};

}  // namespace

// Callbacks of engine and verifiers hold it, so it outlives them; its threads end in Drain().
class GroupWorker::Impl : public std::enable_shared_from_this<GroupWorker::Impl> {
 public:
  Impl(GroupWorkerOptions options, GroupWorkerHooks hooks, MetricsRegistry& metrics)
      : options_(std::move(options)),
        hooks_(std::move(hooks)),
        claimed_(Outcome(metrics, "claimed")),
        completed_(Outcome(metrics, "completed")),
        released_(Outcome(metrics, "released")),
        failed_(Outcome(metrics, "failed")),
        lost_(Outcome(metrics, "lost")) {}

  void Start() {
    route_thread_ = std::thread([this] { RouteLoop(); });
    finish_thread_ = std::thread([this] { FinishLoop(); });
    renew_thread_ = std::thread([this] { RenewLoop(); });
    claim_thread_ = std::thread([this] { ClaimLoop(); });
  }

  void Drain(double deadline_s) {
    if (!claim_thread_.joinable()) return;
    const auto deadline =
        std::chrono::steady_clock::now() +
        std::chrono::duration_cast<milliseconds>(std::chrono::duration<double>(deadline_s));
    draining_ = true;
    Wake();
    claim_thread_.join();
    WaitForOpenGroups(deadline);
    for (const LiveGroupPtr& group : groups_.OpenGroups()) {
      if (EndGroup(group, End::kRelease, "draining")) hooks_.cancel(group->request_id);
    }
    stopping_ = true;
    Wake();
    sampled_.Close();
    ended_.Close();
    route_thread_.join();
    finish_thread_.join();
    renew_thread_.join();
  }

  std::map<std::string, double> WaitingSeconds() const { return waits_.Seconds(); }
  int32_t open_groups() const { return groups_.open_groups(); }

 private:
  static Counter Outcome(MetricsRegistry& metrics, const std::string& outcome) {
    return metrics.MakeCounter("tramontane_generator_groups_total", {{"outcome", outcome}});
  }

  // --- claim thread

  void ClaimLoop() {
    PatientQueue queue(options_.redis, options_.run_id, draining_, waits_);
    while (!draining_) {
      waits_.Set("weights", !hooks_.ready());
      if (!hooks_.ready() || !WantsMore()) {
        Sleep(kTick);
        continue;
      }
      std::optional<Lease> lease;
      const absl::Status status = queue.Call([&](WorkQueue& q) -> absl::Status {
        ASSIGN_OR_RETURN(lease, q.Claim(options_.worker, kClaimBlockMs));
        return absl::OkStatus();
      });
      if (!status.ok() && !draining_) {
        LogWarn("claim_failed", {{"error", status}});
        Sleep(milliseconds(1000));
      }
      NoteWaits(lease.has_value());
      if (lease.has_value()) Begin(*std::move(lease));
    }
  }

  bool WantsMore() const {
    const int32_t ahead = options_.claim_groups * options_.samples_per_group;
    const int32_t batch_groups = options_.max_running_sequences / options_.samples_per_group + 1;
    const int32_t most_groups = kLongestVerdictBacklog * (batch_groups + options_.claim_groups);
    return groups_.unsampled() < options_.max_running_sequences + ahead &&
           groups_.open_groups() < most_groups;
  }

  void NoteWaits(bool got_work) {
    const int32_t unsampled = groups_.unsampled(), groups = groups_.open_groups();
    waits_.Set("groups", !got_work && groups == 0);
    waits_.Set("verdicts", !got_work && groups > 0 && unsampled == 0);
  }

  void Begin(Lease lease) {
    claimed_.Add();
    absl::StatusOr<GroupTask> task = ReadTask(lease);
    if (!task.ok()) {
      GroupTask nothing;
      LiveGroupPtr group = groups_.Open(std::move(lease), std::move(nothing));
      EndGroup(group, End::kFail, "task blob: " + task.status().ToString(),
               options_.max_deliveries);
      return;
    }
    LiveGroupPtr group = groups_.Open(std::move(lease), *std::move(task));
    Submit(group);
  }

  absl::StatusOr<GroupTask> ReadTask(const Lease& lease) const {
    std::string bytes;
    ASSIGN_OR_RETURN(bytes, options_.blobs.Get(lease.blob));
    GroupTask task;
    ASSIGN_OR_RETURN(task, DecodeTask(bytes));
    if (task.samples <= 0) return absl::DataLossError("the task asks for no samples");
    return task;
  }

  // Waits while the engine has no room; the lease is renewed meanwhile.
  void Submit(const LiveGroupPtr& group) {
    while (true) {
      const absl::Status status = hooks_.submit(RequestFor(group), group->task);
      if (status.ok()) return;
      if (absl::IsResourceExhausted(status) && !draining_) {
        Sleep(kTick);
        continue;
      }
      if (absl::IsInvalidArgument(status)) {
        // The row is at fault (a prompt longer than the cache): another try cannot help.
        EndGroup(group, End::kFail, status.ToString(), /*max_deliveries=*/1);
      } else {
        EndGroup(group, End::kRelease, status.ToString());
      }
      return;
    }
  }

  SampleRequest RequestFor(const LiveGroupPtr& group) {
    SampleRequest request;
    request.id = group->request_id;
    request.prompt_tokens = group->task.row.prompt_tokens;
    request.sampling = group->task.sampling;
    request.n = group->task.samples;
    request.wants_routes = group->task.wants_routes;
    if (options_.rollout_timeout_s > 0) {
      request.deadline = std::chrono::steady_clock::now() +
                         std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                             std::chrono::duration<double>(options_.rollout_timeout_s));
    }
    request.on_finished = [self = shared_from_this(), group](Rollout rollout) {
      self->Sampled(group, std::move(rollout));
    };
    return request;
  }

  // --- engine thread

  void Sampled(const LiveGroupPtr& group, Rollout rollout) {
    const FinishReason reason = rollout.finish_reason;
    const int32_t sample_index = rollout.sample_index;
    if (reason == FinishReason::kAborted) {
      EndGroup(group, End::kRelease, "aborted");
    } else if (reason == FinishReason::kError) {
      if (EndGroup(group, End::kFail, "the engine could not finish a sample",
                   options_.max_deliveries)) {
        hooks_.cancel(group->request_id);
      }
    } else if (groups_.SampleDone(group, std::move(rollout))) {
      sampled_.TryPush({group, sample_index});
    }
    Wake();
  }

  // --- route thread

  void RouteLoop() {
    while (!sampled_.closed()) {
      std::optional<SampledItem> item = sampled_.Pop(kTick);
      if (!item.has_value()) continue;
      const LiveGroupPtr& group = item->group;
      Rollout sample = groups_.Sample(group, item->sample_index);
      if (IsCorrection(group->task, item->sample_index))
        sample = CorrectionAlone(std::move(sample));
      if (groups_.CameJudged(group, item->sample_index)) {
        Judged(group, item->sample_index, sample.verdict);
        continue;
      }
      if (sample.finish_reason == FinishReason::kTimeout) {
        Judged(group, item->sample_index, TimedOut());
        continue;
      }
      const VerifyTicket ticket{group->task.gid, group->request_id, group->task.samples,
                                group->task.reward_weights};
      hooks_.verify(group->task.row, sample, ticket,
                    [self = shared_from_this(), group, index = item->sample_index](
                        Verdict verdict) { self->Judged(group, index, std::move(verdict)); });
    }
  }

  // It costs its group one sample and nobody a verdict: half an answer has no reward.
  static Verdict TimedOut() {
    Verdict verdict;
    verdict.status = VerdictStatus::kInfraFailure;
    verdict.feedback = "rollout.timeout_s passed";
    return verdict;
  }

  void Judged(const LiveGroupPtr& group, int32_t sample_index, Verdict verdict) {
    switch (groups_.VerdictDone(group, sample_index, std::move(verdict))) {
      case LiveGroups::Verdicts::kMissing:
        return;
      case LiveGroups::Verdicts::kComplete:
        ended_.TryPush({group, End::kComplete, "", 0});
        return;
      case LiveGroups::Verdicts::kMixed:
        break;
    }
    LogWarn("group_rescored", {{"gid", group->task.gid}, {"times", group->rescored}});
    if (group->rescored > kMostRescores) {
      EndGroup(group, End::kFail, "its verifier changed again and again", options_.max_deliveries);
      return;
    }
    for (int32_t i = 0; i < group->task.samples; ++i) sampled_.TryPush({group, i});
  }

  // --- finish thread

  void FinishLoop() {
    PatientQueue queue(options_.redis, options_.run_id, stopping_, waits_);
    while (true) {
      std::optional<EndedItem> item = ended_.Pop(kTick);
      if (!item.has_value() && ended_.closed()) return;  // what was inside has been handled
      if (item.has_value()) Finish(*item, queue);
    }
  }

  void Finish(const EndedItem& item, PatientQueue& queue) {
    const Lease& lease = item.group->lease;
    absl::Status status;
    switch (item.end) {
      case End::kComplete:
        status = Complete(item.group, queue);
        break;
      case End::kRelease:
        status = queue.Call([&](WorkQueue& q) { return q.Release(lease); });
        break;
      case End::kFail:
        status = queue.Call(
            [&](WorkQueue& q) { return q.Fail(lease, item.reason, item.max_deliveries); });
        break;
    }
    if (!status.ok()) {
      lost_.Add();
      LogWarn("group_lost", {{"gid", lease.gid}, {"error", status}});
      return;
    }
    (item.end == End::kComplete  ? completed_
     : item.end == End::kRelease ? released_
                                 : failed_)
        .Add();
    if (item.end == End::kComplete) return;
    LogWarn(item.end == End::kFail ? "group_failed" : "group_released",
            {{"gid", lease.gid}, {"reason", item.reason}});
  }

  // The lease is renewed until the queue has the group; only then is the group closed.
  absl::Status Complete(const LiveGroupPtr& group, PatientQueue& queue) {
    const std::string bytes = EncodeGroup(groups_.Take(group, options_.worker));
    absl::StatusOr<std::string> address = options_.blobs.Put(bytes);
    while (!address.ok() && !stopping_) {  // a full disk: operators make room
      LogError("group_blob_not_written", {{"error", address.status()}});
      waits_.Set("disk", true);
      Sleep(milliseconds(1000));
      address = options_.blobs.Put(bytes);
    }
    waits_.Set("disk", false);
    if (!address.ok()) return address.status();
    const absl::Status status =
        queue.Call([&](WorkQueue& q) { return q.Complete(group->lease, *address); });
    const bool was_open = groups_.Close(group);
    Wake();
    // Whoever lost the lease meanwhile has counted it.
    return was_open || status.ok() ? status : absl::OkStatus();
  }

  // --- renew thread

  void RenewLoop() {
    PatientQueue queue(options_.redis, options_.run_id, stopping_, waits_);
    const auto interval =
        std::max(milliseconds(50), milliseconds(static_cast<int64_t>(options_.lease_s * 1000 / 4)));
    while (!stopping_) {
      const auto next = std::chrono::steady_clock::now() + interval;
      for (const LiveGroupPtr& group : groups_.OpenGroups()) {
        const absl::Status status = queue.Call([&](WorkQueue& q) { return q.Renew(group->lease); });
        if (stopping_) return;
        if (!status.ok()) LoseLease(group, status);
      }
      while (!stopping_ && std::chrono::steady_clock::now() < next) Sleep(kTick);
    }
  }

  // The group is somebody else's now.
  void LoseLease(const LiveGroupPtr& group, const absl::Status& status) {
    if (!groups_.Close(group)) return;  // it was completed while we asked
    lost_.Add();
    LogWarn("lease_lost", {{"gid", group->lease.gid}, {"error", status}});
    hooks_.cancel(group->request_id);
    hooks_.cancel_verify(group->request_id);
    Wake();
  }

  // --- shared

  // Closes an open group and has the finish thread tell the queue.
  bool EndGroup(const LiveGroupPtr& group, End end, std::string reason, int max_deliveries = 0) {
    if (!groups_.Close(group)) return false;
    hooks_.cancel_verify(group->request_id);
    ended_.TryPush({group, end, std::move(reason), max_deliveries});
    Wake();
    return true;
  }

  void WaitForOpenGroups(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(wake_mutex_);
    woken_.wait_until(lock, deadline, [this] { return groups_.open_groups() == 0; });
  }

  void Wake() {
    { std::lock_guard lock(wake_mutex_); }
    woken_.notify_all();
  }

  // Until something happened, at most this long.
  void Sleep(milliseconds longest) {
    std::unique_lock lock(wake_mutex_);
    woken_.wait_for(lock, longest);
  }

  const GroupWorkerOptions options_;
  const GroupWorkerHooks hooks_;
  Counter claimed_, completed_, released_, failed_, lost_;
  WaitClock waits_;
  LiveGroups groups_;
  Mailbox<SampledItem> sampled_{kRouteCapacity};
  Mailbox<EndedItem> ended_{kRouteCapacity};
  std::atomic<bool> draining_ = false, stopping_ = false;
  std::mutex wake_mutex_;
  std::condition_variable woken_;
  std::thread claim_thread_, route_thread_, finish_thread_, renew_thread_;
};

GroupWorker::GroupWorker(GroupWorkerOptions options, GroupWorkerHooks hooks,
                         MetricsRegistry& metrics)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(hooks), metrics)) {}
GroupWorker::~GroupWorker() { impl_->Drain(0); }
void GroupWorker::Start() { impl_->Start(); }
void GroupWorker::Drain(double deadline_s) { impl_->Drain(deadline_s); }
std::map<std::string, double> GroupWorker::WaitingSeconds() const {
  return impl_->WaitingSeconds();
}
int32_t GroupWorker::open_groups() const { return impl_->open_groups(); }

}  // namespace tramontane
