#include "generator/search/search_ask.h"

#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

absl::Status BadAsk(const std::string& field, const std::string& why) {
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

absl::Status ReadScorer(Json& object, SearchAsk& ask) {
  const Json scorer = TakeOut(object, "scorer"), answers = TakeOut(object, "answers");
  const Json params = TakeOut(object, "scorer_params");
  if (!scorer.is_null()) {
    if (!scorer.is_string()) return BadAsk("scorer", "must be a name, got " + scorer.dump());
    ask.scorer = scorer.get<std::string>();
  }
  if (!answers.is_null() && !answers.is_array())
    return BadAsk("answers", "must be a list of texts, got " + answers.dump());
  for (const Json& answer : answers) {
    if (!answer.is_string()) return BadAsk("answers", "must be texts, got " + answer.dump());
    ask.answers.push_back(answer.get<std::string>());
  }
  if (!params.is_null()) {
    if (!params.is_object())
      return BadAsk("scorer_params", "must be an object, got " + params.dump());
    ask.scorer_params = params;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SearchAsk> SearchAskFromJson(const Json& json, size_t prompts) {
  SearchAsk ask;
  Json params = json;
  if (params.is_object()) RETURN_IF_ERROR(ReadScorer(params, ask));
  ASSIGN_OR_RETURN(ask.params, SearchFromJson(params));
  if (!ask.by_verifier()) {
    if (!ask.answers.empty()) return BadAsk("answers", ask.scorer + " compares with no answer");
    if (!ask.scorer_params.empty()) return BadAsk("scorer_params", ask.scorer + " takes none");
  } else if (!ask.answers.empty() && ask.answers.size() != prompts) {
    return BadAsk("answers", "needs one for each of " + std::to_string(prompts) + " prompts, got " +
                                 std::to_string(ask.answers.size()));
  }
  return ask;
}

absl::Status NoCritic() {
  return BadAsk("scorer",
                "value needs a critic, and none is loaded: name its folder with --value-model, or "
                "in a run with generator.value_model");
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
