#include "trainer/ledger/pause_file.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/clock.h"
#include "common/files.h"
#include "common/rollout.h"
#include "common/status.h"

namespace tramontane {
namespace {

std::string PauseFile(const std::string& run_dir) { return run_dir + "/paused.json"; }

}  // namespace

absl::Status PauseRun(const std::string& run_dir, const std::string& reason) {
  if (PauseReason(run_dir)) return absl::OkStatus();
  const Json json = {{"reason", reason}, {"time_unix_s", SystemClock().NowUnixMs() / 1e3}};
  return WriteFileAtomic(PauseFile(run_dir), json.dump() + "\n");
}

absl::Status UnpauseRun(const std::string& run_dir) {
  const std::string path = PauseFile(run_dir);
  if (::unlink(path.c_str()) == 0) return FsyncDir(run_dir);
  return errno == ENOENT ? absl::NotFoundError(run_dir + ": is not paused")
                         : ErrnoStatus(errno, path);
}

std::optional<std::string> PauseReason(const std::string& run_dir) {
  const std::string path = PauseFile(run_dir);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  const absl::StatusOr<std::string> text = ReadFile(path, 1 << 16);
  const Json json = text.ok() ? Json::parse(*text, nullptr, /*allow_exceptions=*/false) : Json();
  // Made by hand, it counts as well.
  return json.is_object() && json["reason"].is_string() ? json["reason"].get<std::string>() : "";
}

}  // namespace tramontane
