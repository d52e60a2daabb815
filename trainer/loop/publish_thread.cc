#include "trainer/loop/publish_thread.h"

#include <chrono>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kRetryPause(500);

}  // namespace

PublishThread::PublishThread(WeightPublisher& publisher, Failure& failure, double patience_s)
    : publisher_(publisher),
      failure_(failure),
      patience_s_(patience_s),
      thread_([this](std::stop_token stop) { Run(std::move(stop)); }) {}

PublishThread::~PublishThread() {
  thread_.request_stop();
  thread_.join();
}

void PublishThread::Offer(WeightManifest manifest, std::vector<char> payload) {
  {
    std::lock_guard lock(mutex_);
    next_ = Version{std::move(manifest), std::move(payload)};
  }
  offered_.notify_all();
}

int64_t PublishThread::published_version() const {
  std::lock_guard lock(mutex_);
  return published_version_;
}

int64_t PublishThread::published_count() const {
  std::lock_guard lock(mutex_);
  return published_count_;
}

std::optional<PublishThread::Version> PublishThread::Next(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  if (!offered_.wait(lock, stop, [&] { return next_.has_value(); })) return std::nullopt;
  return std::exchange(next_, std::nullopt);
}

bool PublishThread::Pause(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  const bool newer = offered_.wait_for(lock, stop, kRetryPause, [&] { return next_.has_value(); });
  return !newer && !stop.stop_requested();
}

void PublishThread::Run(std::stop_token stop) {
  bool failing = false;
  auto failing_since = std::chrono::steady_clock::now();
  while (std::optional<Version> version = Next(stop)) {
    const int64_t number = version->manifest.version;
    do {
      const absl::Status status = publisher_.Publish(version->manifest, version->payload);
      if (status.ok()) {
        failing = false;
        std::lock_guard lock(mutex_);
        published_version_ = number;
        ++published_count_;
        break;
      }
      LogWarn("publish_failed", {{"version", number}, {"status", status}});
      if (!std::exchange(failing, true)) failing_since = std::chrono::steady_clock::now();
      if (SecondsSince(failing_since) >= patience_s_) {
        return failure_.Set(
            Annotate(status, "publishing weight version " + std::to_string(number)));
      }
    } while (Pause(stop));
  }
}

}  // namespace tramontane
