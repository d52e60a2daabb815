#include "services/generator/search_convert.h"

#include "services/convert.h"

namespace tramontane {

// As the object that all other requests carry, so that one reader knows defaults and ranges.
absl::StatusOr<SearchAsk> FromProto(const v1::Search& search) {
  Json json = Json::object();
  const auto text = [&json](const char* key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  text("method", search.method());
  text("aggregate", search.aggregate());
  text("budget_scope", search.budget_scope());
  text("pick", search.pick());
  text("scorer", search.scorer());
  if (search.has_n()) json["n"] = search.n();
  if (search.has_expansion()) json["expansion"] = search.expansion();
  if (search.has_max_steps()) json["max_steps"] = search.max_steps();
  if (search.has_step_end()) json["step_end"] = search.step_end();
  if (search.has_simulations()) json["simulations"] = search.simulations();
  if (search.has_gamma()) json["gamma"] = search.gamma();
  if (search.has_rollout_weight()) json["rollout_weight"] = search.rollout_weight();
  if (search.has_rollouts()) json["rollouts"] = search.rollouts();
  if (search.has_answer()) json["answers"] = Json::array({search.answer()});
  if (search.has_scorer_params()) json["scorer_params"] = FromStruct(search.scorer_params());
  json["token_budget"] = search.token_budget();
  json["prior"] = search.prior();
  return SearchAskFromJson(json, /*prompts=*/1);
}

v1::SearchReport ToProto(const SearchParams& params, const SearchResult& result) {
  const bool scored = params.method != "majority";
  v1::SearchReport report;
  report.set_method(params.method);
  if (scored) report.set_score(result.best.score);
  if (result.best.answer) report.set_answer(*result.best.answer);
  report.set_sampled_tokens(static_cast<uint64_t>(result.sampled_tokens));
  report.set_out_of_budget(result.out_of_budget);
  for (const SearchPath& path : result.candidates) {
    v1::SearchCandidate& candidate = *report.add_candidates();
    if (scored) candidate.set_score(path.score);
    if (path.answer) candidate.set_answer(*path.answer);
    candidate.set_tokens(static_cast<uint32_t>(path.rollout.tokens.size()));
    candidate.set_ended(path.ended);
    candidate.set_text(path.rollout.text);
  }
  return report;
}

}  // namespace tramontane
