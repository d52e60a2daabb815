#include "services/trainer/receiver.h"

#include <algorithm>
#include <chrono>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100}, kLongestPause{2'000};

}  // namespace

PublishMetrics::PublishMetrics(MetricsRegistry& metrics)
    : prepare_seconds(
          metrics.MakeHistogram("tramontane_weight_publish_seconds", {{"phase", "prepare"}})),
      commit_seconds(
          metrics.MakeHistogram("tramontane_weight_publish_seconds", {{"phase", "commit"}})),
      prepare_failures(
          metrics.MakeCounter("tramontane_weight_publish_failures_total", {{"phase", "prepare"}})),
      commit_failures(
          metrics.MakeCounter("tramontane_weight_publish_failures_total", {{"phase", "commit"}})),
      bytes(metrics.MakeCounter("tramontane_weight_bytes_total")) {}

Receiver::Receiver(Options options, std::function<OfferPtr()> newest,
                   std::function<void()> on_served, const PublishMetrics& metrics)
    : options_(std::move(options)),
      newest_(std::move(newest)),
      on_served_(std::move(on_served)),
      metrics_(metrics),
      generator_(v1::Generator::NewStub(MakeChannel(options_.info.address))),
      thread_([this] { Loop(); }) {}

Receiver::~Receiver() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (call_ != nullptr) call_->TryCancel();
  }
  wake_.notify_all();
  thread_.join();
}

void Receiver::Wake() {
  // An empty critical section: the loop is either before its check or waiting.
  { std::lock_guard lock(mutex_); }
  wake_.notify_all();
}

std::optional<double> Receiver::probe_gap() const {
  std::lock_guard lock(mutex_);
  return probe_gap_;
}

int64_t Receiver::served_version() const {
  std::lock_guard lock(mutex_);
  return served_version_;
}

absl::Status Receiver::last_error() const {
  std::lock_guard lock(mutex_);
  return last_error_;
}

void Receiver::Loop() {
  uint64_t served_sequence = 0;
  auto pause = kFirstPause;
  OfferPtr offer;
  while (WaitForOffer(served_sequence, offer)) {
    const absl::Status status = Bring(*offer);
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    const bool news = last_error_.code() != status.code();
    last_error_ = status;
    if (status.ok()) {
      served_sequence = offer->sequence;
      served_version_ = offer->version;
      pause = kFirstPause;
      lock.unlock();
      on_served_();
      continue;
    }
    if (news) {
      LogWarn("publish_failed", {{"generator", options_.info.generator_id},
                                 {"version", offer->version},
                                 {"error", status}});
    }
    // Not woken by a newer offer: whatever is wrong with the generator needs a moment.
    wake_.wait_for(lock, pause, [this] { return stopping_; });
    pause = std::min(2 * pause, kLongestPause);
  }
}

// Versions published while an earlier one was on its way are skipped: the newest counts.
bool Receiver::WaitForOffer(uint64_t served_sequence, OfferPtr& offer) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] {
    if (stopping_) return true;
    offer = newest_();
    return offer != nullptr && offer->sequence > served_sequence;
  });
  return !stopping_;
}

absl::Status Receiver::Bring(const Offer& offer) {
  const auto start = std::chrono::steady_clock::now();
  absl::Status status = Prepare(offer);
  if (!status.ok()) {
    metrics_.prepare_failures.Add();
    return status;
  }
  metrics_.prepare_seconds.Observe(SecondsSince(start));
  metrics_.bytes.Add(static_cast<double>(offer.payload_bytes));
  const auto prepared = std::chrono::steady_clock::now();
  status = Commit(offer);
  if (!status.ok()) {
    metrics_.commit_failures.Add();
    return status;
  }
  metrics_.commit_seconds.Observe(SecondsSince(prepared));
  return absl::OkStatus();
}

absl::Status Receiver::Prepare(const Offer& offer) {
  const v1::PrepareWeightsRequest& request =
      options_.shares_memory ? offer.shared_memory : offer.tcp;
  v1::PrepareWeightsReply reply;
  const grpc::Status status = generator_->PrepareWeights(
      &NewCall(options_.weights.prepare_timeout_s), request, &reply);
  return Finish(status, "PrepareWeights");
}

absl::Status Receiver::Commit(const Offer& offer) {
  v1::CommitWeightsRequest request;
  request.set_version(offer.version);
  request.set_trainer_epoch(offer.trainer_epoch);
  v1::CommitWeightsReply reply;
  const grpc::Status status =
      generator_->CommitWeights(&NewCall(options_.weights.commit_timeout_s), request, &reply);
  RETURN_IF_ERROR(Finish(status, "CommitWeights"));
  std::lock_guard lock(mutex_);
  probe_gap_ = reply.probe_gap();
  return absl::OkStatus();
}

grpc::ClientContext& Receiver::NewCall(double timeout_s) {
  std::lock_guard lock(mutex_);
  call_ = std::make_unique<grpc::ClientContext>();
  SetDeadline(*call_, timeout_s);
  if (stopping_) call_->TryCancel();
  return *call_;
}

absl::Status Receiver::Finish(const grpc::Status& status, const std::string& phase) {
  EndCall();
  return Annotate(FromGrpc(status), phase);
}

void Receiver::EndCall() {
  std::lock_guard lock(mutex_);
  call_.reset();
}

}  // namespace tramontane
