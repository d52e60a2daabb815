#include "verifier/sandbox/local_runner.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "verifier/sandbox/cxx_function.h"
#include "verifier/sandbox/cxx_header.h"
#include "verifier/sandbox/python_boot.h"

namespace tramontane {
namespace {

constexpr size_t kMaxInputBytes = 64 << 20;
constexpr int64_t kMinMemoryBytes = int64_t{32} << 20;
constexpr double kMinTimeS = 0.01;
constexpr size_t kRememberedPrograms = 64;

// 42, and the version of what runs it.
const char kPythonSelfTest[] = "import sys\nprint(6 * 7, '%d.%d.%d' % sys.version_info[:3])";
const char kCxxSelfTest[] = "#include <bits/stdc++.h>\nint main() { puts(\"42 \" __VERSION__); }";

constexpr double kCompileCpuS = 10, kCompileWallS = 40;
constexpr uint64_t kCompileMemoryBytes = uint64_t{2} << 30;
constexpr uint64_t kCompileResultBytes = uint64_t{64} << 20;

// A deadline that passed while the program could have run says something about the machine and
// nothing about the program.
absl::Status CheckStarved(const JailResult& result) {
  if (result.end != JailEnd::kWallLimit || result.run_queue_us * 2 < result.wall_us) {
    return absl::OkStatus();
  }
  return absl::UnavailableError("sandbox: the machine was too busy: the program waited " +
                                std::to_string(result.run_queue_us / 1000) + " of " +
                                std::to_string(result.wall_us / 1000) + " ms for a processor");
}

absl::StatusOr<ProgramRun> ToProgramRun(JailRun run) {
  RETURN_IF_ERROR(CheckStarved(run.result));
  ProgramRun out;
  out.cpu_seconds = static_cast<double>(run.result.cpu_us) * 1e-6;
  out.wall_seconds = static_cast<double>(run.result.wall_us) * 1e-6;
  out.starved_seconds = static_cast<double>(run.result.run_queue_us) * 1e-6;
  out.peak_memory_bytes = static_cast<int64_t>(run.result.peak_memory_bytes);
  out.output = std::move(run.output);
  out.error = std::move(run.error);
  out.code = run.result.code;
  if (run.output_overflow) {
    out.end = RunEnd::kOutputLimit;
  } else if (run.result.end == JailEnd::kExited) {
    out.end = RunEnd::kExited;
  } else if (run.result.end == JailEnd::kSignalled) {
    out.end = RunEnd::kSignalled;
  } else {
    out.end = RunEnd::kTimeLimit;
  }
  return out;
}

JailTask ProgramTask(std::string_view input, const RunLimits& limits) {
  JailTask task;
  task.input = input;
  task.cpu_s = limits.time_s;
  task.wall_s = 2 * limits.time_s + 1;
  task.memory_bytes = static_cast<uint64_t>(limits.memory_bytes);
  task.output_bytes = static_cast<uint64_t>(limits.output_bytes);
  return task;
}

}  // namespace

const char* ToString(RunEnd end) {
  switch (end) {
    case RunEnd::kExited:
      return "exited";
    case RunEnd::kSignalled:
      return "signalled";
    case RunEnd::kTimeLimit:
      return "time_limit";
    case RunEnd::kOutputLimit:
      return "output_limit";
    case RunEnd::kCompileError:
      return "compile_error";
  }
  return "unknown";
}

std::string DefaultJailProgram() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "tramontane-jail").string();
}

LocalRunner::LocalRunner(const SandboxSection& section, MetricsRegistry& metrics)
    : section_(section),
      metrics_(metrics),
      compile_seconds_(metrics.MakeHistogram("tramontane_sandbox_compile_seconds")) {}

absl::StatusOr<std::unique_ptr<LocalRunner>> LocalRunner::Create(const SandboxSection& section,
                                                                 const std::string& jail_program,
                                                                 MetricsRegistry& metrics) {
  std::unique_ptr<LocalRunner> runner(new LocalRunner(section, metrics));
  if (!section.python.empty() && access(section.python.c_str(), X_OK) != 0) {
    return absl::NotFoundError("sandbox.python: " + section.python + ": not there");
  }
  if (!section.cxx.empty()) {
    ASSIGN_OR_RETURN(runner->header_dir_, PrecompiledHeaderDir(section.cxx));
  }
  ASSIGN_OR_RETURN(
      runner->pool_,
      JailPool::Create(section, jail_program.empty() ? DefaultJailProgram() : jail_program,
                       runner->header_dir_, metrics));
  RETURN_IF_ERROR(runner->SelfTest());
  return runner;
}

absl::Status LocalRunner::SelfTest() {
  const RunLimits limits;
  description_ = pool_->description();
  description_.takes_files = true;
  for (const std::string& language : pool_->description().languages) {
    const bool cxx = language == "cpp";
    const ProgramSpec program{language, cxx ? kCxxSelfTest : kPythonSelfTest, ""};
    ASSIGN_OR_RETURN(const ProgramRun run, Run(program, "", limits));
    if (run.end != RunEnd::kExited || run.code != 0 || !run.output.starts_with("42 ")) {
      return absl::FailedPreconditionError("sandbox: a " + language + " program that prints 42 " +
                                           ToString(run.end) + " with " + std::to_string(run.code) +
                                           ": " + run.error);
    }
    const std::string version = run.output.substr(3, run.output.find('\n') - 3);
    description_.runtimes.push_back((cxx ? "g++ " : "python ") + version);
  }
  return absl::OkStatus();
}

absl::Status LocalRunner::CheckLimits(const ProgramSpec& program, const RunLimits& limits) const {
  const RunLimits& most = pool_->description().most;
  if (program.source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError("the program is longer than 256 KiB");
  }
  if (!(limits.time_s >= kMinTimeS && limits.time_s <= most.time_s)) {
    return absl::InvalidArgumentError("time limit: must be between 0.01 and " +
                                      std::to_string(most.time_s) + " s");
  }
  if (limits.memory_bytes < kMinMemoryBytes || limits.memory_bytes > most.memory_bytes) {
    return absl::InvalidArgumentError("memory limit: must be between 32 MiB and " +
                                      std::to_string(most.memory_bytes >> 20) + " MiB");
  }
  if (limits.output_bytes < 0 || limits.output_bytes > most.output_bytes) {
    return absl::InvalidArgumentError("output limit: must be at most " +
                                      std::to_string(most.output_bytes) + " bytes");
  }
  return absl::OkStatus();
}

absl::StatusOr<ProgramRun> LocalRunner::Run(const ProgramSpec& program, std::string_view input,
                                            const RunLimits& limits) {
  RETURN_IF_ERROR(CheckLimits(program, limits));
  if (input.size() > kMaxInputBytes) {
    return absl::InvalidArgumentError("the input is longer than 64 MiB");
  }
  if (!program.files.empty() && program.language != "python") {
    return absl::InvalidArgumentError("only Python programs are started among files");
  }
  RETURN_IF_ERROR(CheckFileTree(program.files));
  const auto& languages = pool_->description().languages;
  if (std::find(languages.begin(), languages.end(), program.language) == languages.end()) {
    return absl::InvalidArgumentError("language '" + program.language + "' is not offered");
  }
  absl::StatusOr<ProgramRun> run = program.language == "python" ? RunPython(program, input, limits)
                                                                : RunCxx(program, input, limits);
  const std::string end = run.ok() ? ToString(run->end) : "fault";
  metrics_
      .MakeCounter("tramontane_sandbox_runs_total", {{"language", program.language}, {"end", end}})
      .Add();
  if (run.ok()) {
    metrics_.MakeHistogram("tramontane_sandbox_run_seconds", {{"language", program.language}})
        .Observe(run->wall_seconds);
  }
  return run;
}

absl::StatusOr<ProgramRun> LocalRunner::RunPython(const ProgramSpec& program,
                                                  std::string_view input, const RunLimits& limits) {
  ASSIGN_OR_RETURN(const UniqueFd source, SealedFile(program.source));
  JailTask task = ProgramTask(input, limits);
  task.program_fd = source.get();
  UniqueFd tree;
  if (!program.files.empty()) {
    ASSIGN_OR_RETURN(tree, SealedFile(PackedTree(program.files)));
    task.tree_fd = tree.get();
  }
  const bool calls = !program.function.empty();
  // -s -P -S: nothing but the standard library; -B: nothing is written. -E is left out for the
  // hash seed, the one variable that is set.
  task.argv = {section_.python,
               "-s",
               "-P",
               "-S",
               "-B",
               "-c",
               calls ? kPythonFunctionBoot : kPythonProgramBoot};
  if (task.tree_fd >= 0) task.argv.push_back(kPythonTreeFlag);
  if (calls) task.argv.push_back(program.function);
  ASSIGN_OR_RETURN(JailRun run, pool_->Run(task));
  return ToProgramRun(std::move(run));
}

absl::StatusOr<ProgramRun> LocalRunner::RunCxx(const ProgramSpec& program, std::string_view input,
                                               const RunLimits& limits) {
  std::string source = program.source;
  if (!program.function.empty()) {
    ASSIGN_OR_RETURN(source, CxxFunctionProgram(program.source, program.function));
  }
  ASSIGN_OR_RETURN(const CompiledPtr compiled, Compile(source));
  if (!compiled->binary.valid()) return compiled->failure;
  JailTask task = ProgramTask(input, limits);
  task.program_fd = compiled->binary.get();
  task.executes_program_fd = true;
  task.argv = {"program"};
  ASSIGN_OR_RETURN(JailRun run, pool_->Run(task));
  return ToProgramRun(std::move(run));
}

absl::StatusOr<LocalRunner::CompiledPtr> LocalRunner::Compile(const std::string& source) {
  const std::string key = Sha256Hex(source);
  if (CompiledPtr known = Recall(key)) return known;
  ASSIGN_OR_RETURN(CompiledPtr compiled, CompileAnew(source));
  Remember(key, compiled);
  return compiled;
}

absl::StatusOr<LocalRunner::CompiledPtr> LocalRunner::CompileAnew(const std::string& source) {
  JailTask task;
  task.profile = JailProfile::kCompiler;
  task.argv = {section_.cxx, "-x", "c++", "-pipe", "-fmax-errors=5", "-I", header_dir_};
  for (const std::string& flag : CxxFlags()) task.argv.push_back(flag);
  task.argv.insert(task.argv.end(), {"-o", kJailResultName, "-"});
  task.input = source;
  task.cpu_s = kCompileCpuS;
  task.wall_s = kCompileWallS;
  task.memory_bytes = kCompileMemoryBytes;
  task.scratch_bytes = kCompileResultBytes;
  ASSIGN_OR_RETURN(JailRun run, pool_->Run(task));
  const bool clean = run.result.end == JailEnd::kExited && run.result.code == 0;
  auto compiled = std::make_shared<Compiled>();
  if (clean) compiled->binary = std::move(run.compiled);
  ASSIGN_OR_RETURN(compiled->failure, ToProgramRun(std::move(run)));
  compile_seconds_.Observe(compiled->failure.wall_seconds);
  if (compiled->failure.end != RunEnd::kExited) {
    compiled->failure.error +=
        std::string("\n(the compiler ended by ") + ToString(compiled->failure.end) + ")";
  }
  compiled->failure.end = RunEnd::kCompileError;
  return compiled;
}

LocalRunner::CompiledPtr LocalRunner::Recall(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto it = cache_.find(key);
  if (it == cache_.end()) return nullptr;
  recent_.remove(key);
  recent_.push_front(key);
  return it->second;
}

void LocalRunner::Remember(const std::string& key, CompiledPtr compiled) {
  std::lock_guard lock(mutex_);
  if (!cache_.emplace(key, std::move(compiled)).second) return;
  recent_.push_front(key);
  if (recent_.size() > kRememberedPrograms) {
    cache_.erase(recent_.back());
    recent_.pop_back();
  }
}

}  // namespace tramontane
