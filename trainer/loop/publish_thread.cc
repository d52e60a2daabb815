#include "trainer/loop/publish_thread.h"

#include <stop_token>
#include <utility>

#include "common/log.h"

namespace tramontane {

PublishThread::PublishThread(WeightPublisher& publisher)
    : publisher_(publisher), thread_([this](std::stop_token stop) { Run(std::move(stop)); }) {}

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

void PublishThread::Run(std::stop_token stop) {
  while (true) {
    Version version;
    {
      std::unique_lock lock(mutex_);
      if (!offered_.wait(lock, stop, [&] { return next_.has_value(); })) return;
      version = std::move(*next_);
      next_.reset();
    }
    const int64_t number = version.manifest.version;
    const absl::Status status = publisher_.Publish(std::move(version.manifest), std::move(version.payload));
    if (!status.ok()) {
      // The next version is another chance; staleness admission holds training back meanwhile.
      LogWarn("publish_failed", {{"version", number}, {"status", status}});
      continue;
    }
    std::lock_guard lock(mutex_);
    published_version_ = number;
    ++published_count_;
  }
}

}  // namespace tramontane
