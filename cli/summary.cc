#include "cli/summary.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "cli/chain.h"
#include "cli/status.h"
#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

bool Has(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_number();
}

// Mean of a key over the objects that have it; null when none does.
class MeanOf {
 public:
  void Add(const Json& json, const char* key) {
    if (Has(json, key)) sum_ += json[key].get<double>(), ++count_;
  }
  Json value() const { return count_ ? Json(sum_ / count_) : Json(); }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

// Each trainer process counts its own; one that went on from a checkpoint has said so first.
class VersionsPublished {
 public:
  void Add(const Json& entry) {
    if (entry.value("event", "") == "resumed") before_ += newest_, newest_ = 0;
    if (!Has(entry, "versions_published")) return;
    newest_ = entry["versions_published"].get<int64_t>();
    known_ = true;
  }
  Json total() const { return known_ ? Json(before_ + newest_) : Json(); }

 private:
  int64_t before_ = 0, newest_ = 0;
  bool known_ = false;
};

void TakeEvaluation(const Json& entry, Json& summary) {
  const Json& accuracy = entry["accuracy"];
  if (summary["accuracy_before"].is_null()) summary["accuracy_before"] = accuracy;
  summary["accuracy_after"] = accuracy;
  const Json& best = summary["accuracy_best"];
  if (best.is_null() || accuracy.get<double>() > best.get<double>())
    summary["accuracy_best"] = accuracy;
}

absl::StatusOr<Json> SummariseChain(const RunConfig& chain, const std::string& run_dir) {
  ASSIGN_OR_RETURN(Json stages, StageStates(chain, run_dir));
  for (Json& stage : stages) {
    const absl::StatusOr<std::vector<Json>> metrics =
        ReadMetrics(stage["run_dir"].get<std::string>());
    if (absl::IsNotFound(metrics.status())) continue;  // not begun, or without a run loop
    RETURN_IF_ERROR(metrics.status());
    stage["summary"] = SummariseMetrics(*metrics);
  }
  return Json{{"run_dir", run_dir}, {"stages", std::move(stages)}};
}

}  // namespace

absl::StatusOr<std::vector<Json>> ReadMetrics(const std::string& run_dir) {
  const std::string path = run_dir + "/metrics.jsonl";
  auto text = ReadFile(path);
  if (!text.ok()) return text.status();
  std::vector<Json> metrics;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) {
      metrics.push_back(std::move(json));
    } else if (!lines.eof()) {
      return absl::DataLossError(path + ":" + std::to_string(metrics.size() + 1) +
                                 ": not a JSON object");
    }
  }
  return metrics;
}

Json SummariseMetrics(const std::vector<Json>& metrics) {
  Json summary;
  for (const char* key : {"accuracy_before", "accuracy_after", "accuracy_best", "reward_first",
                          "reward_last_10", "tokens_per_second", "generated_tokens", "elapsed_s",
                          "trainer_busy_share", "weight_versions", "steps", "logprob_gap_max"}) {
    summary[key] = nullptr;
  }
  MeanOf staleness;
  VersionsPublished versions;
  double busy_s = 0;
  for (const Json& entry : metrics) {
    const std::string kind = entry.value("event", "");
    versions.Add(entry);
    if (kind == "eval" && Has(entry, "accuracy")) TakeEvaluation(entry, summary);
    if (kind != "step") continue;
    summary["steps"] = entry["step"];
    if (summary["reward_first"].is_null())
      summary["reward_first"] = entry.value("reward_mean", Json());
    summary["reward_last_10"] = entry.value("reward_10", Json());
    summary["tokens_per_second"] = entry.value("tokens_per_second_overall", Json());
    summary["generated_tokens"] = entry.value("generated_tokens", Json());
    summary["elapsed_s"] = entry.value("elapsed_s", Json());
    busy_s += entry.value("step_seconds", 0.0);
    staleness.Add(entry, "staleness_mean");
    for (const char* key : {"logprob_gap_max", "probe_gap"}) {
      if (!Has(entry, key)) continue;
      const double gap = entry[key];
      const Json& worst = summary["logprob_gap_max"];
      if (worst.is_null() || gap > worst.get<double>()) summary["logprob_gap_max"] = gap;
    }
  }
  summary["staleness_mean"] = staleness.value();
  summary["weight_versions"] = versions.total();
  if (Has(summary, "elapsed_s") && summary["elapsed_s"] > 0) {
    summary["trainer_busy_share"] = busy_s / summary["elapsed_s"].get<double>();
  }
  return summary;
}

absl::StatusOr<Json> Summarise(const std::string& run_dir) {
  ASSIGN_OR_RETURN(const std::optional<RunConfig> chain, LoadChain(run_dir));
  if (chain) return SummariseChain(*chain, run_dir);
  auto metrics = ReadMetrics(run_dir);
  if (!metrics.ok()) return metrics.status();
  Json summary = SummariseMetrics(*metrics);
  summary["run_dir"] = run_dir;
  return summary;
}

std::string RenderSummary(const Json& summary) {
  if (summary.contains("stages")) {
    std::string text = RenderStages(summary["stages"]);
    for (const Json& stage : summary["stages"]) {
      if (!stage.contains("summary")) continue;
      text += "\n== " + stage.value("name", "") + " (" + stage.value("kind", "") + ")\n" +
              RenderSummary(stage["summary"]);
    }
    return text;
  }
  struct Row {
    const char *key, *label, *format;
  };
  static constexpr Row kRows[] = {
      {"accuracy_before", "held-out accuracy before", "%.3f"},
      {"accuracy_after", "held-out accuracy after", "%.3f"},
      {"reward_first", "mean sampled reward, first step", "%.3f"},
      {"reward_last_10", "mean sampled reward, last 10 steps", "%.3f"},
      {"steps", "optimiser steps", "%.0f"},
      {"elapsed_s", "seconds of the RL stage", "%.1f"},
      {"tokens_per_second", "generated tokens/s of wall time", "%.0f"},
      {"trainer_busy_share", "trainer busy, share of that time", "%.2f"},
      {"generator_busy_share", "generators busy, share of steps' time", "%.2f"},
      {"weight_versions", "weight versions published", "%.0f"},
      {"staleness_mean", "mean staleness, versions", "%.2f"},
      {"logprob_gap_max", "largest generator-trainer log-prob gap", "%.1e"},
      {"restarts", "processes restarted", "%.0f"},
  };
  std::string text;
  const auto line = [&](const std::string& label, const std::string& value) {
    text += label + std::string(label.size() < 42 ? 42 - label.size() : 1, ' ') + value + "\n";
  };
  for (const Row& row : kRows) {
    if (!Has(summary, row.key)) continue;
    char value[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    std::snprintf(value, sizeof value, row.format, summary[row.key].get<double>());
#pragma GCC diagnostic pop
    line(row.label, value);
  }
  for (const auto& [key, label] : {std::pair{"run_dir", "run directory"}, {"picture", "picture"}}) {
    if (summary.contains(key) && summary[key].is_string())
      line(label, summary[key].get<std::string>());
  }
  return text;
}

}  // namespace tramontane
