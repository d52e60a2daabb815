#include "trainer/loop/background_writer.h"

#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr size_t kBacklog = 64;
constexpr std::chrono::seconds kFlushPatience(60);

}  // namespace

BackgroundWriter::BackgroundWriter(Failure& failure, std::chrono::milliseconds patience)
    : failure_(failure), patience_(patience), jobs_(kBacklog), thread_([this] {
        while (true) {
          std::optional<Job> job = jobs_.Pop(std::chrono::seconds(1));
          if (job) Run(*job);
          if (!job && jobs_.closed()) return;
        }
      }) {}

void BackgroundWriter::Run(const Job& job) {
  const absl::Status status = job.work();
  if (absl::IsResourceExhausted(status)) {
    failure_.Set(Annotate(status, job.what));
  } else if (!status.ok()) {
    LogWarn("background_write_failed", {{"what", job.what}, {"status", status}});
  }
}

absl::Status BackgroundWriter::Flush() {
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> finished = done->get_future();
  Do("flush", [done] {
    done->set_value();
    return absl::OkStatus();
  });
  // Not for ever: a disk that hangs is the operator's to see.
  if (finished.wait_for(kFlushPatience) != std::future_status::ready) {
    return absl::DeadlineExceededError("what is left to write did not reach the disk in time");
  }
  return failure_.Get();
}

BackgroundWriter::~BackgroundWriter() {
  jobs_.Close();
  thread_.join();
}

void BackgroundWriter::Do(std::string what, std::function<absl::Status()> work) {
  Job job{std::move(what), std::move(work)};
  const auto patience = failure_.failed() ? std::chrono::milliseconds(0) : patience_;
  if (jobs_.Push(std::move(job), patience)) return;
  LogWarn("background_write_skipped", {{"what", job.what}});
  failure_.Set(absl::DeadlineExceededError(
      job.what + ": could not be written: the disk took nothing for " +
      std::to_string(std::chrono::duration_cast<std::chrono::seconds>(patience_).count()) + " s"));
}

}  // namespace tramontane
