#include "generator/search_tool.h"

#include <nlohmann/json.hpp>

#include "common/status.h"

namespace tramontane {
namespace {

absl::Status Bad(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError("search." + field + ": " + why);
}

// Takes `key` out of the object; null when it is not there.
Json TakeOut(Json& object, const std::string& key) {
  if (!object.contains(key)) return nullptr;
  Json value = object[key];
  object.erase(key);
  return value;
}

Json PathJson(const SearchPath& path, bool scored) {
  return {{"score", scored ? Json(path.score) : Json(nullptr)},
          {"answer", path.answer ? Json(*path.answer) : Json(nullptr)},
          {"tokens", path.rollout.tokens.size()},
          {"ended", path.ended},
          {"text", path.rollout.text}};
}

}  // namespace

absl::StatusOr<SearchAsk> SearchAskFromJson(const Json& json, size_t prompts) {
  SearchAsk ask;
  Json params = json;
  if (params.is_object()) {
    const Json scorer = TakeOut(params, "scorer"), answers = TakeOut(params, "answers");
    if (!scorer.is_null()) {
      if (!scorer.is_string()) return Bad("scorer", "must be a name, got " + scorer.dump());
      ask.scorer = scorer.get<std::string>();
    }
    for (const Json& answer : answers) {
      if (!answer.is_string()) return Bad("answers", "must be texts, got " + answer.dump());
      ask.answers.push_back(answer.get<std::string>());
    }
  }
  ASSIGN_OR_RETURN(ask.params, SearchFromJson(params));
  if (ask.scorer == "mean_logprob") {
    if (!ask.answers.empty()) return Bad("answers", "mean_logprob compares with no answer");
  } else if (ask.answers.size() != prompts) {
    return Bad("answers", "grader \"" + ask.scorer + "\" needs one for each of " +
                              std::to_string(prompts) + " prompts, got " +
                              std::to_string(ask.answers.size()));
  }
  return ask;
}

absl::StatusOr<std::vector<SearchResult>> RunSearchAsk(
    const SearchAsk& ask, const LoadedModel& loaded,
    const std::vector<std::vector<int32_t>>& prompts, const std::vector<std::string>& texts,
    const SamplingParams& sampling, const SearchHooks& hooks, const EngineOptions& options) {
  SearchJudge judge{nullptr, hooks.answer, hooks.same};
  if (ask.scorer != "mean_logprob") {
    judge.score =
        [&](size_t prompt,
            const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
      std::vector<double> scores;
      for (const SearchPath* path : paths) {
        ASSIGN_OR_RETURN(const double score, hooks.grade(ask.scorer, texts[prompt], path->rollout,
                                                         ask.answers[prompt]));
        scores.push_back(score);
      }
      return scores;
    };
  }
  return RunSearches(loaded, prompts, sampling, ask.params, judge, options);
}

Json SearchJson(const SearchParams& params, const SearchResult& result) {
  const bool scored = params.method != "majority";
  Json candidates = Json::array();
  for (const SearchPath& path : result.candidates) candidates.push_back(PathJson(path, scored));
  return {{"method", params.method},
          {"score", scored ? Json(result.best.score) : Json(nullptr)},
          {"answer", result.best.answer ? Json(*result.best.answer) : Json(nullptr)},
          {"sampled_tokens", result.sampled_tokens},
          {"out_of_budget", result.out_of_budget},
          {"candidates", std::move(candidates)}};
}

}  // namespace tramontane
