#include "services/verifier/score_differences.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <optional>

namespace tramontane {
namespace {

constexpr double kSame = 1e-6;
constexpr size_t kLargestShown = 10, kTextShown = 200;

// The end of a text, from the beginning of a character on.
std::string End(const std::string& text) {
  size_t from = text.size() - std::min(text.size(), kTextShown);
  while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
  return text.substr(from);
}

}  // namespace

void ScoreDifferences::Add(const StoredSample& stored, const Verdict& now) {
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

Json ScoreDifferences::Document() const {
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

void ScoreDifferences::Keep(double difference, const StoredSample& stored, const Verdict& now) {
  if (largest_.size() == kLargestShown && difference <= largest_.rbegin()->first) return;
  const std::optional<double> was = stored.rollout.verdict.score;
  largest_.emplace(difference, Json{{"step", stored.step},
                                    {"gid", stored.gid},
                                    {"sample_index", stored.rollout.sample_index},
                                    {"old", was ? Json(*was) : Json()},
                                    {"new", now.score ? Json(*now.score) : Json()},
                                    {"text", End(stored.rollout.text)},
                                    {"answer", stored.row.answer},
                                    {"feedback", now.feedback}});
  if (largest_.size() > kLargestShown) largest_.erase(std::prev(largest_.end()));
}

std::string RenderDifferences(const Json& report) {
  const Json& correct = report["correct"];
  const auto count = [](const Json& from, const char* key) { return from[key].dump(); };
  std::string text = count(report, "samples") + " samples, " + count(report, "same") +
                     " the same, " + count(report, "differing") + " differ, " +
                     count(report, "unscored") + " not scored by both\n";
  if (report["mean_old"].is_number()) {
    char line[96];
    std::snprintf(line, sizeof line, "mean reward %.4f before, %.4f with %s\n",
                  report["mean_old"].get<double>(), report["mean_new"].get<double>(),
                  report["version"].get<std::string>().c_str());
    text += line;
  }
  text += "correct: " + count(correct, "both") + " by both, " + count(correct, "neither") +
          " by neither, " + count(correct, "only_old") + " only before, " +
          count(correct, "only_new") + " only now\n";
  if (report["without_params"] != 0) {
    text += count(report, "without_params") + " samples were stored without their row's params\n";
  }
  for (const Json& stage : report.value("stages", Json::array())) {
    text += "  stage " + stage["stage"].get<std::string>() + ": " + count(stage, "samples") +
            " samples, " + count(stage, "differing") + " differ\n";
  }
  for (const Json& item : report["largest"]) {
    text += "  step " + count(item, "step") + " " + item["gid"].get<std::string>().substr(0, 8) +
            "/" + count(item, "sample_index") + ": " + count(item, "old") + " -> " +
            count(item, "new") + " for " + item["answer"].get<std::string>() + "\n";
  }
  return text;
}

}  // namespace tramontane
