#include "trainer/ledger/rollout_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "common/files.h"
#include "common/layers.h"
#include "common/record_io.h"
#include "common/status.h"

namespace tramontane {

Json RolloutLine(const Group& group, const Rollout& rollout, const std::string& run_id,
                 int64_t step, const std::string& fate) {
  Json line = ToJson(rollout);
  line["run"] = run_id;
  line["step"] = step;
  line["gid"] = group.task.gid;
  line["cursor"] = group.task.cursor;
  line["row_id"] = group.task.row.row_id;
  line["prompt"] = group.task.row.prompt;
  line["prompt_tokens"] = group.task.row.prompt_tokens;
  line["answer"] = group.task.row.answer;
  line["params"] = group.task.row.params;  // what scoring it again needs
  if (!group.task.row.messages.empty()) line["messages"] = ToJson(group.task.row.messages);
  if (!group.task.reward_weights.empty()) line["reward_weights"] = group.task.reward_weights;
  line["generator"] = group.generator_id;
  line["version_min"] = MinVersion(rollout);
  line["version_max"] = MaxVersion(rollout);
  line["issued_version"] = group.task.issued_version;
  line["reward"] = rollout.verdict.score ? Json(*rollout.verdict.score) : Json();
  line["verdict"] = ToJson(rollout.verdict);
  line["generate_seconds"] = rollout.generate_seconds;
  line["fate"] = fate;
  if (group.task.answers > 0) {
    const bool correction = IsCorrection(group.task, rollout.sample_index);
    line["layer"] = correction ? 2 : 1;
    if (correction) line["corrects"] = AnswerOf(group.task, rollout.sample_index);
  }
  return line;
}

void JsonLines::Add(const Json& line) {
  // Model output may hold broken UTF-8; a log line must not.
  text_ += line.dump(-1, ' ', false, Json::error_handler_t::replace);
  text_ += '\n';
}

absl::Status JsonLines::Write(const std::string& path) const {
  RETURN_IF_ERROR(MakeDirs(std::filesystem::path(path).parent_path().string()));
  return WriteFileAtomic(path, text_);
}

absl::Status JsonLines::AppendTo(const std::string& path) const {
  RETURN_IF_ERROR(MakeDirs(std::filesystem::path(path).parent_path().string()));
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, path);
  const off_t before = ::lseek(fd, 0, SEEK_END);
  absl::Status status;
  for (size_t done = 0; done < text_.size();) {
    const ssize_t n = ::write(fd, text_.data() + done, text_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status = ErrnoStatus(errno, path);
      // No half lines: take back what was written.
      if (before >= 0 && ::ftruncate(fd, before) != 0) status = ErrnoStatus(errno, path);
      break;
    }
    done += static_cast<size_t>(n);
  }
  if (::close(fd) != 0 && status.ok()) status = ErrnoStatus(errno, path);
  return status;
}

}  // namespace tramontane
