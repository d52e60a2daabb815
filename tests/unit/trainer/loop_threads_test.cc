// The loop's two side threads: the background writer and the one that publishes weights.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "common/clock.h"
#include "trainer/loop/background_writer.h"
#include "trainer/loop/publish_thread.h"

namespace tramontane {
namespace {

TEST(BackgroundWriter, AFullDiskEndsTheRunAndOtherErrorsDoNot) {
  Failure failure;
  BackgroundWriter writer(failure);
  writer.Do("a", [] { return absl::PermissionDeniedError("no"); });
  EXPECT_TRUE(writer.Flush().ok());
  writer.Do("metrics.jsonl",
            [] { return absl::ResourceExhaustedError("/run/metrics.jsonl: disk full"); });
  const absl::Status status = writer.Flush();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(), "metrics.jsonl: /run/metrics.jsonl: disk full");
  EXPECT_TRUE(failure.failed());
}

TEST(BackgroundWriter, ADiskThatTakesNothingEndsTheRunByNameRatherThanLoseALine) {
  Failure failure;
  BackgroundWriter writer(failure, std::chrono::milliseconds(50));
  std::promise<void> release;
  writer.Do("rollouts", [hung = release.get_future().share()] {
    hung.wait();
    return absl::OkStatus();
  });
  std::atomic<int> written = 0;
  const auto line = [&] {
    ++written;
    return absl::OkStatus();
  };
  int given = 0;
  while (!failure.failed() && given < 1000) writer.Do("metrics.jsonl", line), ++given;
  EXPECT_TRUE(absl::IsDeadlineExceeded(failure.Get())) << failure.Get();
  EXPECT_NE(failure.Get().message().find("metrics.jsonl"), absl::string_view::npos);
  release.set_value();
  EXPECT_FALSE(writer.Flush().ok());
  EXPECT_EQ(written, given - 1);  // all but the one that the run ended with
}

TEST(BackgroundWriter, WorksInOrderAndFlushWaitsForAllOfIt) {
  Failure failure;
  BackgroundWriter writer(failure);
  std::string order;
  for (const char* name : {"a", "b", "c"}) {
    writer.Do(name, [&order, name] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      order += name;
      return absl::OkStatus();
    });
  }
  EXPECT_TRUE(writer.Flush().ok());
  EXPECT_EQ(order, "abc");
}

class FailingPublisher final : public WeightPublisher {
 public:
  explicit FailingPublisher(int failures) : failures_(failures) {}
  absl::Status Publish(const WeightManifest&, const std::vector<char>&) override {
    ++calls;
    return failures_-- > 0 ? absl::ResourceExhaustedError("/dev/shm: disk full") : absl::OkStatus();
  }
  absl::Status WaitForReceiver(int64_t, double) override { return absl::OkStatus(); }
  std::optional<double> ProbeGap() const override { return std::nullopt; }

  std::atomic<int> calls = 0;

 private:
  std::atomic<int> failures_;
};

WeightManifest Version(int64_t version) {
  WeightManifest manifest;
  manifest.version = version;
  return manifest;
}

template <class Fits>
bool Eventually(Fits fits) {
  const auto start = std::chrono::steady_clock::now();
  while (!fits() && SecondsSince(start) < 10)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return fits();
}

TEST(PublishThread, AVersionThatCouldNotBeOfferedIsTriedAgain) {
  FailingPublisher publisher(1);
  Failure failure;
  PublishThread thread(publisher, failure);
  thread.Offer(Version(7), {});
  EXPECT_TRUE(Eventually([&] { return thread.published_version() == 7; }));
  EXPECT_EQ(publisher.calls, 2);
  EXPECT_EQ(thread.published_count(), 1);
  EXPECT_FALSE(failure.failed());
}

TEST(PublishThread, WhenNothingCanBeOfferedForLongTheRunEnds) {
  FailingPublisher publisher(1000000);
  Failure failure;
  PublishThread thread(publisher, failure, /*patience_s=*/0.2);
  thread.Offer(Version(7), {});
  EXPECT_TRUE(Eventually([&] { return failure.failed(); }));
  EXPECT_EQ(failure.Get().message(), "publishing weight version 7: /dev/shm: disk full");
  EXPECT_EQ(thread.published_version(), -1);
}

}  // namespace
}  // namespace tramontane
