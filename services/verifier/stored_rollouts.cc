#include "services/verifier/stored_rollouts.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/layers.h"
#include "common/record_io.h"
#include "common/status.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<StoredSample> Parse(const std::string& line) {
  try {
    const Json json = Json::parse(line);
    StoredSample stored;
    stored.step = json.at("step").get<int64_t>();
    stored.gid = json.at("gid").get<std::string>();
    stored.row.row_id = json.value("row_id", "");
    stored.row.prompt_tokens = json.value("prompt_tokens", std::vector<int32_t>());
    stored.row.prompt = json.at("prompt").get<std::string>();
    stored.row.answer = json.at("answer").get<std::string>();
    stored.has_params = json.contains("params");
    if (stored.has_params) stored.row.params = json.at("params");
    stored.row.messages = MessagesFromJson(json.value("messages", Json::array()));
    stored.rollout.sample_index = json.at("sample_index").get<int32_t>();
    stored.rollout.tokens = json.value("tokens", std::vector<int32_t>());
    stored.layer = json.value("layer", 1);
    if (stored.layer == 2) {  // its verifier saw the correction alone
      for (const Json& span : json.value("injected", Json::array()))
        stored.rollout.injected.push_back({span.at(0).get<int32_t>(), span.at(1).get<int32_t>()});
      stored.rollout = CorrectionAlone(std::move(stored.rollout));
    }
    stored.rollout.text = json.at("text").get<std::string>();
    const std::string reason = json.value("finish_reason", "");
    stored.rollout.finish_reason = reason == "stop"         ? FinishReason::kStop
                                   : reason == "length"     ? FinishReason::kLength
                                   : reason == "repetition" ? FinishReason::kRepetition
                                                            : FinishReason::kUnspecified;
    stored.reward_weights = json.value("reward_weights", std::map<std::string, double>());
    const Json& verdict = json.at("verdict");
    stored.rollout.verdict.verifier = verdict.at("verifier").get<std::string>();
    stored.rollout.verdict.correct = verdict.at("correct").get<bool>();
    if (!verdict.at("score").is_null())
      stored.rollout.verdict.score = verdict.at("score").get<double>();
    return stored;
  } catch (const Json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

// The run's files of one kind, in the order of steps.
absl::StatusOr<std::vector<fs::path>> RolloutFiles(const StoredRollouts& options) {
  const auto& [run_dir, only, kind, limit, first_step] = options;
  std::map<int64_t, fs::path> files;
  std::error_code error;
  for (const auto& folder : fs::directory_iterator(run_dir + "/rollouts", error)) {
    const std::string name = folder.path().filename().string();
    const fs::path file = folder.path() / (kind + ".jsonl");
    if (!name.starts_with("step_") || !fs::exists(file)) continue;
    if (const int64_t step = std::atoll(name.c_str() + 5); step >= first_step) files[step] = file;
  }
  if (files.empty()) {
    return absl::NotFoundError(run_dir + ": has no " + kind + " rollouts; is it a run directory?");
  }
  std::vector<fs::path> ordered;
  for (auto& [step, file] : files) ordered.push_back(file);
  return ordered;
}

}  // namespace

absl::Status ForEachStoredGroup(const StoredRollouts& options,
                                const std::function<absl::Status(std::vector<StoredSample>)>& use) {
  ASSIGN_OR_RETURN(const std::vector<fs::path> files, RolloutFiles(options));
  std::vector<StoredSample> group;
  int64_t samples = 0;
  const auto flush = [&] {
    return group.empty() ? absl::OkStatus() : use(std::exchange(group, {}));
  };
  for (const fs::path& path : files) {
    std::ifstream lines(path);
    std::string line;
    for (int64_t number = 1; std::getline(lines, line); ++number) {
      if (options.limit > 0 && samples >= options.limit) break;
      absl::StatusOr<StoredSample> stored = Parse(line);
      if (!stored.ok()) {
        return Annotate(stored.status(), path.string() + ":" + std::to_string(number));
      }
      const bool wanted = options.only.empty() ||
                          std::ranges::count(options.only, stored->rollout.verdict.verifier) > 0;
      if (!wanted) continue;
      ++samples;
      if (!group.empty() && group.front().gid != stored->gid) RETURN_IF_ERROR(flush());
      group.push_back(*std::move(stored));
    }
    RETURN_IF_ERROR(flush());
  }
  return absl::OkStatus();
}

}  // namespace tramontane
