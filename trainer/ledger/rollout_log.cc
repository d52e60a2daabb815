#include "trainer/ledger/rollout_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "common/files.h"
#include "common/record_io.h"
#include "common/status.h"

namespace tramontane {

Json RolloutLine(const Group& group, const Rollout& rollout, const std::string& run_id, int64_t step,
                 const std::string& fate) {
  Json line = ToJson(rollout);
  line["run"] = run_id;
  line["step"] = step;
  line["gid"] = group.task.gid;
  line["cursor"] = group.task.cursor;
  line["row_id"] = group.task.row.row_id;
  line["prompt"] = group.task.row.prompt;
  line["answer"] = group.task.row.answer;
  line["params"] = group.task.row.params;  // what scoring it again needs
  line["generator"] = group.generator_id;
  line["version_min"] = MinVersion(rollout);
  line["version_max"] = MaxVersion(rollout);
  line["issued_version"] = group.task.issued_version;
  line["reward"] = rollout.verdict.score ? Json(*rollout.verdict.score) : Json();
  line["verdict"] = ToJson(rollout.verdict);
  line["generate_seconds"] = rollout.generate_seconds;
  line["fate"] = fate;
  return line;
}

void JsonLines::Add(const Json& line) {
  // Model output may hold broken UTF-8; a log line must not.
  buffer_ += line.dump(-1, ' ', false, Json::error_handler_t::replace);
  buffer_ += '\n';
}

absl::Status JsonLines::Flush() {
  if (buffer_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(MakeDirs(std::filesystem::path(path_).parent_path().string()));
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, path_);
  const off_t before = ::lseek(fd, 0, SEEK_END);
  absl::Status status;
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t n = ::write(fd, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status = ErrnoStatus(errno, path_);
      // No half lines: take back what was written.
      if (before >= 0 && ::ftruncate(fd, before) != 0) status = ErrnoStatus(errno, path_);
      break;
    }
    done += static_cast<size_t>(n);
  }
  if (::close(fd) != 0 && status.ok()) status = ErrnoStatus(errno, path_);
  buffer_.clear();
  return status;
}

}  // namespace tramontane
