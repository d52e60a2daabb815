#include "trainer/loop/background_writer.h"

#include <optional>
#include <utility>

#include "common/log.h"

namespace tramontane {
namespace {

constexpr size_t kBacklog = 64;
constexpr std::chrono::seconds kPatience(10);

}  // namespace

BackgroundWriter::BackgroundWriter() : jobs_(kBacklog), thread_([this] {
  while (true) {
    std::optional<Job> job = jobs_.Pop(std::chrono::seconds(1));
    if (!job) {
      if (jobs_.closed()) return;
      continue;
    }
    if (absl::Status status = job->work(); !status.ok()) {
      LogWarn("background_write_failed", {{"what", job->what}, {"status", status}});
    }
  }
}) {}

BackgroundWriter::~BackgroundWriter() {
  jobs_.Close();
  thread_.join();
}

void BackgroundWriter::Do(std::string what, std::function<absl::Status()> work) {
  Job job{std::move(what), std::move(work)};
  if (!jobs_.Push(std::move(job), kPatience)) LogWarn("background_write_skipped", {{"what", job.what}});
}

}  // namespace tramontane
