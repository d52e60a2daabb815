#include "cli/reverify.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cli/registry.h"
#include "cli/verifier_child.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "common/record_io.h"
#include "common/status.h"
#include "services/verifier/client.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

constexpr double kSame = 1e-6, kReadyS = 60;
constexpr size_t kMostOpen = 512, kLargestShown = 10, kTextShown = 200;
constexpr char kName[] = "again";

struct Stored {
  PromptRow row;
  Rollout rollout;  // with the run's verdict
  std::string gid;
  int64_t step = 0;
  bool has_params = false;
};

absl::StatusOr<Stored> Parse(const std::string& line) {
  try {
    const Json json = Json::parse(line);
    Stored stored;
    stored.step = json.at("step").get<int64_t>();
    stored.gid = json.at("gid").get<std::string>();
    stored.row.prompt = json.at("prompt").get<std::string>();
    stored.row.answer = json.at("answer").get<std::string>();
    stored.row.verifier = kName;
    stored.has_params = json.contains("params");
    if (stored.has_params) stored.row.params = json.at("params");
    stored.row.messages = MessagesFromJson(json.value("messages", Json::array()));
    stored.rollout.sample_index = json.at("sample_index").get<int32_t>();
    stored.rollout.tokens = json.value("tokens", std::vector<int32_t>());
    stored.rollout.text = json.at("text").get<std::string>();
    stored.rollout.finish_reason =
        json.value("finish_reason", "") == "length" ? FinishReason::kLength : FinishReason::kStop;
    const Json& verdict = json.at("verdict");
    stored.rollout.verdict.verifier = verdict.at("verifier").get<std::string>();
    stored.rollout.verdict.correct = verdict.at("correct").get<bool>();
    if (!verdict.at("score").is_null()) stored.rollout.verdict.score = verdict.at("score").get<double>();
    return stored;
  } catch (const Json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

// The run's files of one kind, in the order of steps.
absl::StatusOr<std::vector<fs::path>> RolloutFiles(const std::string& run_dir, const std::string& kind) {
  std::map<int64_t, fs::path> files;
  std::error_code error;
  for (const auto& folder : fs::directory_iterator(run_dir + "/rollouts", error)) {
    const std::string name = folder.path().filename().string();
    const fs::path file = folder.path() / (kind + ".jsonl");
    if (name.starts_with("step_") && fs::exists(file)) files[std::atoll(name.c_str() + 5)] = file;
  }
  if (files.empty()) {
    return absl::NotFoundError(run_dir + ": has no " + kind + " rollouts; is it a run directory?");
  }
  std::vector<fs::path> ordered;
  for (auto& [step, file] : files) ordered.push_back(file);
  return ordered;
}

// Calls `use` for each stored sample that is asked for, a group's samples one after the other.
absl::Status ForEachGroup(const ReverifyOptions& options,
                          const std::function<absl::Status(std::vector<Stored>)>& use) {
  ASSIGN_OR_RETURN(const std::vector<fs::path> files, RolloutFiles(options.run_dir, options.kind));
  std::vector<Stored> group;
  int64_t samples = 0;
  const auto flush = [&] {
    return group.empty() ? absl::OkStatus() : use(std::exchange(group, {}));
  };
  for (const fs::path& path : files) {
    std::ifstream lines(path);
    std::string line;
    for (int64_t number = 1; std::getline(lines, line); ++number) {
      if (options.limit > 0 && samples >= options.limit) break;
      absl::StatusOr<Stored> stored = Parse(line);
      if (!stored.ok()) {
        return Annotate(stored.status(), path.string() + ":" + std::to_string(number));
      }
      if (!options.only.empty() && stored->rollout.verdict.verifier != options.only) continue;
      ++samples;
      if (!group.empty() && group.front().gid != stored->gid) RETURN_IF_ERROR(flush());
      group.push_back(*std::move(stored));
    }
    RETURN_IF_ERROR(flush());
  }
  return absl::OkStatus();
}

// What differs, sample by sample. One thread at a time.
class Differences {
 public:
  void Add(const Stored& stored, const Verdict& now) {
    const Verdict& was = stored.rollout.verdict;
    ++samples_;
    without_params_ += !stored.has_params;
    if (!version_known_ && !now.verifier_digest.empty()) {
      version_ = now.verifier_version;
      digest_ = now.verifier_digest;
      version_known_ = true;
    }
    if (!was.score || !now.score) {
      ++unscored_;
      if (was.score || now.score) Keep(HUGE_VAL, stored, now);
      return;
    }
    ++both_;
    old_sum_ += *was.score;
    new_sum_ += *now.score;
    ++correct_[{was.correct, now.correct}];
    const double difference = std::abs(*now.score - *was.score);
    if (difference <= kSame && was.correct == now.correct) {
      ++same_;
    } else {
      Keep(difference, stored, now);
    }
  }

  Json Document() const {
    Json largest = Json::array();
    for (const auto& [size, item] : largest_) largest.push_back(item);
    const auto correct = [this](bool was, bool now) {
      const auto it = correct_.find({was, now});
      return it == correct_.end() ? 0 : it->second;
    };
    return {{"samples", samples_},
            {"scored_by_both", both_},
            {"same", same_},
            {"differing", both_ - same_},
            {"unscored", unscored_},
            {"without_params", without_params_},
            {"mean_old", both_ > 0 ? Json(old_sum_ / both_) : Json()},
            {"mean_new", both_ > 0 ? Json(new_sum_ / both_) : Json()},
            {"correct",
             {{"both", correct(true, true)},
              {"neither", correct(false, false)},
              {"only_old", correct(true, false)},
              {"only_new", correct(false, true)}}},
            {"largest", std::move(largest)},
            {"version", version_},
            {"digest", digest_}};
  }

 private:
  void Keep(double difference, const Stored& stored, const Verdict& now) {
    if (largest_.size() == kLargestShown && difference <= largest_.rbegin()->first) return;
    const std::string& text = stored.rollout.text;
    const std::optional<double> was = stored.rollout.verdict.score;
    largest_.emplace(difference,
                     Json{{"step", stored.step},
                          {"gid", stored.gid},
                          {"sample_index", stored.rollout.sample_index},
                          {"old", was ? Json(*was) : Json()},
                          {"new", now.score ? Json(*now.score) : Json()},
                          {"text", text.substr(text.size() - std::min(text.size(), kTextShown))},
                          {"answer", stored.row.answer},
                          {"feedback", now.feedback}});
    if (largest_.size() > kLargestShown) largest_.erase(std::prev(largest_.end()));
  }

  int64_t samples_ = 0, both_ = 0, same_ = 0, unscored_ = 0, without_params_ = 0;
  double old_sum_ = 0, new_sum_ = 0;
  bool version_known_ = false;
  std::string version_, digest_;
  std::map<std::pair<bool, bool>, int64_t> correct_;  // by (was, is now)
  std::multimap<double, Json, std::greater<>> largest_;
};

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
      return absl::NotFoundError("'" + name + "' is neither in the run's `verifiers` nor an address, and " +
                                 std::string(registered.status().message()));
    }
    section.use = name;
  }
  return section;
}

}  // namespace

absl::StatusOr<Json> Reverify(const CommandContext& context, const ReverifyOptions& options) {
  const std::string config_path = options.run_dir + "/configs/config.json";
  const auto config = LoadConfig(config_path, {});
  if (!config.ok()) return Annotate(config.status(), "is " + options.run_dir + " a run directory?");
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
  Differences differences;  // guarded by mutex, as is `open`
  size_t open = 0;
  // Ends before what its callbacks use.
  ASSIGN_OR_RETURN(const auto pool, VerifierPool::Create({{kName, child.section()}}, {}, metrics, clock));
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
  const absl::Status read = ForEachGroup(options, [&](std::vector<Stored> group) -> absl::Status {
    // Unique: the same group may be stored at two steps, and its samples must be gathered apart.
    const VerifyTicket ticket{group.front().gid, std::to_string(groups++),
                              static_cast<int32_t>(group.size())};
    for (Stored& sample : group) {
      const auto stored = std::make_shared<const Stored>(std::move(sample));
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

std::string RenderReverify(const Json& report) {
  const Json& correct = report["correct"];
  const auto count = [](const Json& from, const char* key) { return from[key].dump(); };
  std::string text = count(report, "samples") + " samples, " + count(report, "same") + " the same, " +
                     count(report, "differing") + " differ, " + count(report, "unscored") +
                     " not scored by both\n";
  if (report["mean_old"].is_number()) {
    char line[96];
    std::snprintf(line, sizeof line, "mean reward %.4f before, %.4f with %s\n",
                  report["mean_old"].get<double>(), report["mean_new"].get<double>(),
                  report["version"].get<std::string>().c_str());
    text += line;
  }
  text += "correct: " + count(correct, "both") + " by both, " + count(correct, "neither") +
          " by neither, " + count(correct, "only_old") + " only before, " + count(correct, "only_new") +
          " only now\n";
  if (report["without_params"] != 0) {
    text += count(report, "without_params") + " samples were stored without their row's params\n";
  }
  for (const Json& item : report["largest"]) {
    text += "  step " + count(item, "step") + " " + item["gid"].get<std::string>().substr(0, 8) + "/" +
            count(item, "sample_index") + ": " + count(item, "old") + " -> " + count(item, "new") +
            " for " + item["answer"].get<std::string>() + "\n";
  }
  return text;
}

}  // namespace tramontane
