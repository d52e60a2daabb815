#include "cli/reverify.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cli/registry.h"
#include "cli/verifier_child.h"
#include "common/clock.h"
#include "common/metrics.h"
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

}  // namespace

absl::StatusOr<Json> Reverify(const CommandContext& context, const ReverifyOptions& options) {
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
  ScoreDifferences differences;  // guarded by mutex, as is `open`
  size_t open = 0;
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
            differences.Add(*stored, verdict);
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
  RETURN_IF_ERROR(read);
  Json report = differences.Document();
  report["verifier"] = options.verifier;
  return report;
}

}  // namespace tramontane
