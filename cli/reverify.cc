#include "cli/reverify.h"

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "cli/chain.h"
#include "cli/registry.h"
#include "cli/verifier_child.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "common/stages.h"
#include "common/status.h"
#include "services/verifier/client.h"
#include "services/verifier/score_differences.h"

namespace tramontane {
namespace {

constexpr double kReadyS = 60;
constexpr size_t kMostOpen = 512;
constexpr char kName[] = "again";

absl::StatusOr<VerifierSection> SectionOf(const ReverifyOptions& options, const RunConfig& config) {
  const std::string& name = options.verifier;
  if (const auto it = config.verifiers.find(name); it != config.verifiers.end()) return it->second;
  VerifierSection section;
  if (name.starts_with("builtin:")) {
    section.builtin = name.substr(8);
  } else if (name.find(':') != std::string::npos) {
    section.address = name;
  } else {
    const auto registered = VerifierRegistry(RegistryFolder()).Find(name);
    if (!registered.ok()) {
      return absl::NotFoundError("'" + name +
                                 "' is neither in the run's `verifiers` nor an address, and " +
                                 std::string(registered.status().message()));
    }
    section.use = name;
  }
  return section;
}

// Scores one run's rollouts, and adds what differs to both.
absl::Status ReverifyRun(const CommandContext& context, const ReverifyOptions& options,
                         ScoreDifferences& own, ScoreDifferences& all) {
  const std::string config_path = options.rollouts.run_dir + "/configs/config.json";
  const auto config = LoadConfig(config_path, {});
  if (!config.ok())
    return Annotate(config.status(), "is " + options.rollouts.run_dir + " a run directory?");
  ASSIGN_OR_RETURN(VerifierSection section, SectionOf(options, *config));
  section.shadow.clear();
  const bool known = config->verifiers.contains(options.verifier);
  ASSIGN_OR_RETURN(const VerifierChild child,
                   VerifierChild::Start(options.verifier, section, context.binary_dir,
                                        known ? config_path : "", "/dev/stderr"));
  MetricsRegistry metrics;
  const SystemClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  size_t open = 0;  // guarded by mutex, as are the differences
  // Ends before what its callbacks use.
  ASSIGN_OR_RETURN(const auto pool,
                   VerifierPool::Create({{kName, child.section()}}, {}, metrics, clock));
  RETURN_IF_ERROR(pool->WaitUntilReady(kReadyS));
  // A verifier that stays away is an error here, where a run would wait for it.
  const auto wait = [&](std::unique_lock<std::mutex>& lock, size_t most) -> absl::Status {
    while (open > most) {
      changed.wait_for(lock, std::chrono::seconds(1));
      for (const auto& [what, seconds] : pool->WaitingSeconds()) {
        if (seconds > kReadyS) return absl::UnavailableError(options.verifier + " went away");
      }
    }
    return absl::OkStatus();
  };
  int64_t groups = 0;
  const absl::Status read =
      ForEachStoredGroup(options.rollouts, [&](std::vector<StoredSample> group) -> absl::Status {
        // Unique: the same group may be stored at two steps, and its samples must be gathered
        // apart.
        const VerifyTicket ticket{group.front().gid, std::to_string(groups++),
                                  static_cast<int32_t>(group.size()), group.front().reward_weights};
        for (StoredSample& sample : group) {
          sample.row.verifier = kName;
          const auto stored = std::make_shared<const StoredSample>(std::move(sample));
          {
            std::lock_guard lock(mutex);
            ++open;
          }
          pool->Verify(stored->row, stored->rollout, ticket, [&, stored](Verdict verdict) {
            std::lock_guard lock(mutex);
            own.Add(*stored, verdict);
            all.Add(*stored, verdict);
            --open;
            changed.notify_all();
          });
        }
        std::unique_lock lock(mutex);
        return wait(lock, kMostOpen);
      });
  {
    std::unique_lock lock(mutex);
    RETURN_IF_ERROR(wait(lock, 0));
  }
  return read;
}

// The folders whose rollouts are to be scored, and their stages' names: of a run that is no chain,
// itself and "".
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> RunsOf(
    const ReverifyOptions& options) {
  const std::string& run_dir = options.rollouts.run_dir;
  ASSIGN_OR_RETURN(const std::optional<RunConfig> chain, LoadChain(run_dir));
  std::vector<std::pair<std::string, std::string>> runs;
  if (!chain && options.stage.empty()) runs.emplace_back(run_dir, "");
  for (size_t i = 0; chain && i < chain->stages.size(); ++i) {
    const std::string& name = chain->stages[i].name;
    const std::string folder = StageRunDir(run_dir, *chain, i);
    std::error_code ignored;
    if (!options.stage.empty() ? name == options.stage
                               : std::filesystem::exists(folder + "/rollouts", ignored))
      runs.emplace_back(folder, name);
  }
  if (runs.empty()) {
    return absl::NotFoundError(run_dir + (options.stage.empty()
                                              ? ": no stage has stored rollouts"
                                              : ": has no stage '" + options.stage + "'"));
  }
  return runs;
}

}  // namespace

absl::StatusOr<Json> Reverify(const CommandContext& context, const ReverifyOptions& options) {
  ASSIGN_OR_RETURN(const auto runs, RunsOf(options));
  ScoreDifferences all;
  Json stages = Json::array();
  for (const auto& [folder, stage] : runs) {
    ReverifyOptions one = options;
    one.rollouts.run_dir = folder;
    ScoreDifferences own;
    const absl::Status status = ReverifyRun(context, one, own, all);
    if (!status.ok()) return stage.empty() ? status : Annotate(status, "stage '" + stage + "'");
    Json document = own.Document();
    document["stage"] = stage;
    stages.push_back(std::move(document));
  }
  Json report = all.Document();
  report["verifier"] = options.verifier;
  if (!runs.front().second.empty()) report["stages"] = std::move(stages);
  return report;
}

}  // namespace tramontane
