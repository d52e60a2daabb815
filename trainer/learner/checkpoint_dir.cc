#include "trainer/learner/checkpoint_dir.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string_view>

#include "common/file_stamp.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

constexpr int kManifestFormat = 1;
constexpr std::string_view kPrefix = "step_";
constexpr size_t kMaxManifestBytes = size_t{1} << 30;

std::optional<int64_t> StepOf(const fs::path& dir) {
  const std::string name = dir.filename().string();
  int64_t step = 0;
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

// step → folder, newest first.
std::map<int64_t, std::string, std::greater<>> StepDirs(const std::string& checkpoints_dir) {
  std::map<int64_t, std::string, std::greater<>> dirs;
  std::error_code error;
  for (fs::directory_iterator it(checkpoints_dir, error), end; !error && it != end;
       it.increment(error)) {
    if (const std::optional<int64_t> step = StepOf(it->path())) dirs[*step] = it->path().string();
  }
  return dirs;
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  return error ? ErrnoStatus(error.value(), path) : absl::OkStatus();
}

// Every regular file below `dir`, by relative name; folders are fsynced on the way.
absl::StatusOr<Json> StampTree(const std::string& dir) {
  Json files = Json::object();
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory()) {
      RETURN_IF_ERROR(FsyncDir(it->path().string()));
      continue;
    }
    ASSIGN_OR_RETURN(const FileStamp stamp, StampFile(it->path().string()));
    files[it->path().lexically_relative(dir).generic_string()] = {{"bytes", stamp.bytes},
                                                                  {"sha256", stamp.sha256}};
  }
  if (error) return ErrnoStatus(error.value(), dir);
  return files;
}

// A manifest is trusted with names only inside its own folder.
bool StaysInside(const std::string& name) {
  const fs::path path(name);
  if (name.empty() || path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

absl::Status VerifyFile(const std::string& dir, const std::string& name, const Json& expected) {
  if (!StaysInside(name))
    return absl::DataLossError(dir + "/manifest.json: bad file name '" + name + "'");
  const std::string path = dir + "/" + name;
  if (!fs::exists(path)) return absl::DataLossError(path + ": is missing");
  ASSIGN_OR_RETURN(const FileStamp stamp, StampFile(path));
  if (stamp.bytes != expected.at("bytes").get<uint64_t>()) {
    return absl::DataLossError(path + ": has " + std::to_string(stamp.bytes) +
                               " bytes, manifest says " + expected.at("bytes").dump());
  }
  if (stamp.sha256 != expected.at("sha256").get<std::string>()) {
    return absl::DataLossError(path + ": SHA-256 differs from the manifest");
  }
  return absl::OkStatus();
}

// An empty folder to fill for `step`.
absl::StatusOr<std::string> BeginCheckpoint(const std::string& checkpoints_dir, int64_t step) {
  RETURN_IF_ERROR(MakeDirs(checkpoints_dir));
  const std::string staging =
      checkpoints_dir + "/.saving_" + std::string(kPrefix) + std::to_string(step);
  RETURN_IF_ERROR(RemoveAll(staging));
  RETURN_IF_ERROR(MakeDirs(staging));
  return staging;
}

// Hashes what `staging_dir` holds, writes its manifest, and moves it to step_N.
absl::Status CommitCheckpoint(const std::string& staging_dir, const std::string& checkpoints_dir,
                              const CheckpointState& state) {
  ASSIGN_OR_RETURN(Json files, StampTree(staging_dir));
  const Json manifest = {{"format_version", kManifestFormat},
                         {"step", state.step},
                         {"trainer_epoch", state.trainer_epoch},
                         {"ledger", state.ledger},
                         {"files", std::move(files)}};
  RETURN_IF_ERROR(WriteFileAtomic(staging_dir + "/manifest.json", manifest.dump(1)));
  const std::string target =
      checkpoints_dir + "/" + std::string(kPrefix) + std::to_string(state.step);
  // Exchanged, so that there is no moment without a step_N when one is written again.
  const unsigned flags = fs::exists(target) ? RENAME_EXCHANGE : 0;
  if (::renameat2(AT_FDCWD, staging_dir.c_str(), AT_FDCWD, target.c_str(), flags) != 0) {
    return ErrnoStatus(errno, target);
  }
  RETURN_IF_ERROR(FsyncDir(checkpoints_dir));
  return RemoveAll(staging_dir);
}

// Removes all but the newest `keep_last` step folders.
absl::Status PruneCheckpoints(const std::string& checkpoints_dir, int keep_last) {
  int kept = 0;
  for (const auto& [step, dir] : StepDirs(checkpoints_dir)) {
    if (kept++ < keep_last) continue;
    // Renamed first: a half-removed folder must not look like a damaged checkpoint.
    const std::string doomed =
        checkpoints_dir + "/.removing_" + std::string(kPrefix) + std::to_string(step);
    RETURN_IF_ERROR(RemoveAll(doomed));
    if (::rename(dir.c_str(), doomed.c_str()) != 0) return ErrnoStatus(errno, dir);
    RETURN_IF_ERROR(RemoveAll(doomed));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteCheckpoint(const std::string& checkpoints_dir, const CheckpointState& state,
                             int keep_last,
                             const std::function<absl::Status(const std::string& dir)>& fill) {
  ASSIGN_OR_RETURN(const std::string staging, BeginCheckpoint(checkpoints_dir, state.step));
  absl::Status status = fill(staging);
  if (status.ok()) status = CommitCheckpoint(staging, checkpoints_dir, state);
  if (!status.ok()) {
    std::error_code ignored;  // the save's own error is the one to report
    std::filesystem::remove_all(staging, ignored);
    return Annotate(status, "checkpoint of step " + std::to_string(state.step));
  }
  return PruneCheckpoints(checkpoints_dir, keep_last);
}

absl::StatusOr<CheckpointState> VerifyCheckpoint(const std::string& dir) {
  const std::string path = dir + "/manifest.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxManifestBytes));
  try {
    const Json manifest = Json::parse(text);
    if (manifest.at("format_version").get<int>() != kManifestFormat) {
      return absl::DataLossError(path + ": unknown format version " +
                                 manifest.at("format_version").dump());
    }
    for (const auto& [name, expected] : manifest.at("files").items()) {
      RETURN_IF_ERROR(VerifyFile(dir, name, expected));
    }
    CheckpointState state;
    state.step = manifest.at("step").get<int64_t>();
    state.trainer_epoch = manifest.at("trainer_epoch").get<int64_t>();
    state.ledger = manifest.at("ledger");
    return state;
  } catch (const Json::exception& error) {
    return absl::DataLossError(path + ": " + error.what());
  }
}

absl::StatusOr<LoadedCheckpoint> FindNewestCheckpoint(const std::string& checkpoints_dir) {
  for (const auto& [step, dir] : StepDirs(checkpoints_dir)) {
    absl::StatusOr<CheckpointState> state = VerifyCheckpoint(dir);
    if (state.ok()) return LoadedCheckpoint{*std::move(state), dir, dir + "/hf"};
    LogWarn("checkpoint_damaged", {{"dir", dir}, {"error", state.status()}});
  }
  return absl::NotFoundError(checkpoints_dir + ": no checkpoint that verifies");
}

}  // namespace tramontane
