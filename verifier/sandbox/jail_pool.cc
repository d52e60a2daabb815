#include "verifier/sandbox/jail_pool.h"

#include <utility>

#include "common/log.h"
#include "common/status.h"
#include "verifier/sandbox/layers.h"

namespace tramontane {
namespace {

// A compiler's helpers and its scratch folder count as well.
constexpr int64_t kMemoryHeadroomBytes = int64_t{1} << 30;

}  // namespace

JailPool::JailPool(const SandboxSection& section, const std::string& jail_program,
                   const std::string& header_dir, MetricsRegistry& metrics)
    : section_(section),
      restarts_(metrics.MakeCounter("tramontane_sandbox_jail_restarts_total")),
      waiting_(metrics.MakeGauge("tramontane_sandbox_waiting")) {
  options_.program = jail_program;
  options_.namespaces = section.namespaces != "off";
  options_.readonly_paths = section.readonly_paths;
  options_.header_dir = header_dir;
  options_.max_memory_bytes = (int64_t{section.max_memory_mib} << 20) + kMemoryHeadroomBytes;
}

absl::StatusOr<std::unique_ptr<JailPool>> JailPool::Create(const SandboxSection& section,
                                                           const std::string& jail_program,
                                                           const std::string& header_dir,
                                                           MetricsRegistry& metrics) {
  JailCgroup::SweepStale();
  std::unique_ptr<JailPool> pool(new JailPool(section, jail_program, header_dir, metrics));
  std::string why = section.namespaces == "off" ? "sandbox.namespaces is off" : "";
  for (int slot = 0; slot < section.programs; ++slot) {
    absl::StatusOr<std::unique_ptr<Jail>> jail = pool->Start(slot);
    if (absl::IsFailedPrecondition(jail.status()) && section.namespaces == "auto" && slot == 0) {
      why = std::string(jail.status().message());
      pool->options_.namespaces = false;
      jail = pool->Start(slot);
    }
    RETURN_IF_ERROR(jail.status());
    if (slot == 0) {
      pool->layers_ = (*jail)->layers();
      ASSIGN_OR_RETURN(pool->description_,
                       DescribeLayers(pool->layers_, (*jail)->landlock_abi(), why, section));
    }
    pool->free_.push_back({slot, *std::move(jail)});
  }
  SandboxDescription& description = pool->description_;
  if (!section.python.empty()) description.languages.push_back("python");
  if (!section.cxx.empty()) description.languages.push_back("cpp");
  description.programs = section.programs;
  description.most = MostLimits(section);
  return pool;
}

absl::StatusOr<std::unique_ptr<Jail>> JailPool::Start(int slot) const {
  JailOptions options = options_;
  options.slot = slot;
  ASSIGN_OR_RETURN(std::unique_ptr<Jail> jail, Jail::Start(options));
  RETURN_IF_ERROR(CheckAsTight(layers_, jail->layers()));
  return jail;
}

JailPool::Slot JailPool::Borrow() {
  waiting_.Add(1);
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [this] { return !free_.empty(); });  // every run is bounded, so this is
  Slot slot = std::move(free_.back());
  free_.pop_back();
  waiting_.Add(-1);
  return slot;
}

void JailPool::Return(Slot slot) {
  {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(slot));
  }
  returned_.notify_one();
}

absl::StatusOr<JailRun> JailPool::RunOnce(const JailTask& task) {
  Slot slot = Borrow();
  if (!slot.jail) {
    absl::StatusOr<std::unique_ptr<Jail>> fresh = Start(slot.number);
    if (!fresh.ok()) {
      Return(std::move(slot));
      return absl::UnavailableError(std::string(fresh.status().message()));
    }
    slot.jail = *std::move(fresh);
  }
  absl::StatusOr<JailRun> run = slot.jail->Run(task);
  if (absl::IsUnavailable(run.status())) {
    restarts_.Add();
    slot.jail.reset();
  }
  Return(std::move(slot));
  return run;
}

absl::StatusOr<JailRun> JailPool::Run(const JailTask& task) {
  absl::StatusOr<JailRun> run = RunOnce(task);
  if (!absl::IsUnavailable(run.status())) return run;
  LogWarn("sandbox_jail_replaced", {{"reason", run.status()}});
  return RunOnce(task);
}

std::vector<pid_t> JailPool::pids() const {
  std::lock_guard lock(mutex_);
  std::vector<pid_t> pids;
  for (const Slot& slot : free_) {
    if (slot.jail) pids.push_back(slot.jail->pid());
  }
  return pids;
}

}  // namespace tramontane
