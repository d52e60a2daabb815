#include "cli/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/files.h"
#include "common/random_hex.h"
#include "common/stages.h"
#include "common/status.h"

namespace fs = std::filesystem;

namespace tramontane {
namespace {

// "data/train.jsonl" → "train", "/models/qwen/" → "qwen".
std::string Stem(const std::string& path) {
  fs::path p = fs::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.stem().string();
}

std::string AutoName(const RunConfig& config) {
  const std::string data = !config.stages.empty()      ? "stages"
                           : config.data.train.empty() ? config.run.kind
                                                       : Stem(config.data.train);
  std::string model = Stem(config.model.path);
  if (model.empty()) {
    const auto type = config.model.init.find("model_type");
    model = type != config.model.init.end() && type->second.is_string()
                ? type->second.get<std::string>() + "-init"
                : "init";
  }
  return data + "--" + model + "--" + RandomHex(6);
}

std::string Absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

// Words of a command are not all paths: "serve" is none, even where a file has that name.
bool LooksLikeAFile(const std::string& argument) {
  std::error_code ignored;
  return argument.find_first_of("/.") != std::string::npos &&
         fs::is_regular_file(argument, ignored);
}

// The fields that hold a path: where a stage's `set` has them, and where a configuration does.
struct PathField {
  const char* pointer;
  std::string* (*of)(RunConfig&);
};
const PathField kPathFields[] = {
    {"/run/output_dir", [](RunConfig& c) { return &c.run.output_dir; }},
    {"/model/path", [](RunConfig& c) { return &c.model.path; }},
    {"/model/init_tokenizer", [](RunConfig& c) { return &c.model.init_tokenizer; }},
    {"/data/train", [](RunConfig& c) { return &c.data.train; }},
    {"/data/eval", [](RunConfig& c) { return &c.data.eval; }},
    {"/sft/data", [](RunConfig& c) { return &c.sft.data; }},
    {"/sft/eval_data", [](RunConfig& c) { return &c.sft.eval_data; }},
    {"/distill/teacher", [](RunConfig& c) { return &c.distill.teacher; }},
    {"/reward/language_model", [](RunConfig& c) { return &c.reward.language_model; }},
    {"/generator/value_model", [](RunConfig& c) { return &c.generator.value_model; }},
};

// A stage's references that are paths, and the paths that it sets.
void MakeStagePathsAbsolute(RunConfig& config, size_t index) {
  StageSection& stage = config.stages[index];
  const auto resolve = [&](std::string& reference, bool wants_model) {
    if (absl::IsNotFound(FindStage(config, index, reference, wants_model).status()))
      reference = Absolute(reference);
  };
  if (!stage.from.empty()) resolve(stage.from, true);
  for (std::string& data : stage.data) resolve(data, false);
  for (std::string& model : stage.models) resolve(model, true);
  for (const PathField& field : kPathFields) {
    const Json::json_pointer pointer(field.pointer);
    if (!stage.set.contains(pointer) || !stage.set[pointer].is_string()) continue;
    if (const std::string path = stage.set[pointer]; !path.empty())
      stage.set[pointer] = Absolute(path);
  }
}

absl::Status WriteJson(const std::string& path, const Json& json) {
  return WriteFileAtomic(path, json.dump(2) + "\n");
}

}  // namespace

absl::StatusOr<RunDir> RunDir::Create(RunConfig& config, RunDirMode mode) {
  if (config.run.name.empty()) {
    if (mode != RunDirMode::kNew) {
      return absl::InvalidArgumentError(
          "run.name: is needed with --resume and --clean (or give the run directory in place of "
          "CONFIG)");
    }
    config.run.name = AutoName(config);
  }
  RunDir dir;
  dir.path_ = (fs::path(config.run.output_dir) / config.run.name).lexically_normal().string();
  const bool exists = fs::exists(dir.path_ + "/configs/config.json");
  if (mode == RunDirMode::kResume && !exists) {
    return absl::NotFoundError(dir.path_ + ": no run to resume here");
  }
  if (mode == RunDirMode::kNew && exists) {
    return absl::AlreadyExistsError(dir.path_ +
                                    ": the run exists; use --resume to go on with it, --clean to "
                                    "remove it, or another run.name");
  }
  if (mode != RunDirMode::kResume && !exists && fs::exists(dir.path_) && !fs::is_empty(dir.path_)) {
    return absl::AlreadyExistsError(dir.path_ + ": the folder exists and is not a run of ours");
  }
  RETURN_IF_ERROR(MakeDirs(dir.path_));
  RETURN_IF_ERROR(dir.Lock());
  if (mode == RunDirMode::kClean && exists) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(dir.path_)) {
      if (entry.path().filename() != ".lock") fs::remove_all(entry.path(), error);
      if (error) return ErrnoStatus(error.value(), entry.path().string());
    }
  }
  RETURN_IF_ERROR(MakeDirs(dir.path_ + "/configs"));
  RETURN_IF_ERROR(dir.NewAttempt());
  return dir;
}

RunDir::RunDir(RunDir&& other) noexcept
    : path_(std::move(other.path_)),
      log_dir_(std::move(other.log_dir_)),
      attempt_(other.attempt_),
      lock_fd_(std::exchange(other.lock_fd_, -1)) {}

RunDir::~RunDir() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

absl::Status RunDir::Lock() {
  const std::string lock = path_ + "/.lock";
  lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_fd_ < 0) return ErrnoStatus(errno, lock);
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(path_ + ": another `tramontane run` is at work here");
  }
  return absl::OkStatus();
}

absl::Status RunDir::NewAttempt() {
  const std::string logs = path_ + "/logs";
  do {
    log_dir_ = logs + "/attempt_" + std::to_string(++attempt_);
  } while (fs::exists(log_dir_));
  RETURN_IF_ERROR(MakeDirs(log_dir_));
  std::error_code error;
  fs::remove(logs + "/latest", error);
  fs::create_directory_symlink("attempt_" + std::to_string(attempt_), logs + "/latest", error);
  if (error) return ErrnoStatus(error.value(), logs + "/latest");
  return absl::OkStatus();
}

absl::Status RunDir::WriteConfig(const RunConfig& config) const {
  return WriteJson(config_path(), ToJson(config));
}

absl::Status RunDir::WriteResolved(const RunConfig& config) const {
  return WriteJson(resolved_path(), ToJson(config));
}

absl::Status RunDir::WriteEndpoints(const std::string& run_name,
                                    const std::vector<ProcessView>& processes) const {
  Json endpoints = {{"run", run_name},
                    {"attempt", attempt_},
                    {"supervisor_pid", ::getpid()},
                    {"processes", Json::array()}};
  Json targets = Json::array();
  for (const ProcessView& p : processes) {
    endpoints["processes"].push_back({{"name", p.name},
                                      {"kind", p.kind},
                                      {"pid", p.pid},
                                      {"address", p.address},
                                      {"metrics_address", p.metrics_address},
                                      {"log", p.log_path},
                                      {"restarts", p.restarts}});
    if (p.metrics_address.empty() || p.pid < 0) continue;
    targets.push_back({{"targets", {p.metrics_address}},
                       {"labels", {{"run", run_name}, {"process", p.name}, {"service", p.kind}}}});
  }
  RETURN_IF_ERROR(WriteJson(path_ + "/endpoints.json", endpoints));
  return WriteJson(path_ + "/prometheus_targets.json", targets);
}

void MakePathsAbsolute(RunConfig& config) {
  for (const PathField& field : kPathFields) {
    if (std::string& path = *field.of(config); !path.empty()) path = Absolute(path);
  }
  for (std::string& model : config.merge.models) model = Absolute(model);
  for (size_t i = 0; i < config.stages.size(); ++i) MakeStagePathsAbsolute(config, i);
  for (auto& [name, verifier] : config.verifiers) {
    for (std::string& argument : verifier.command) {
      if (LooksLikeAFile(argument)) argument = Absolute(argument);
    }
  }
}

std::string ConfigPathOf(const std::string& config_or_run_dir) {
  return fs::is_directory(config_or_run_dir) ? config_or_run_dir + "/configs/config.json"
                                             : config_or_run_dir;
}

}  // namespace tramontane
