#include "generator/search_tool.h"

#include <memory>

#include "common/status.h"
#include "generator/value_scorer.h"

namespace tramontane {

absl::Status AddValueHook(const std::string& folder, const std::string& model_dir, int threads,
                          SearchHooks& hooks) {
  if (folder.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::shared_ptr<ValueScorer> scorer,
                   ValueScorer::Load(folder, model_dir, threads));
  hooks.value = [scorer](const std::vector<int32_t>& prompt,
                         const std::vector<const SearchPath*>& paths) {
    return scorer->Score(prompt, paths);
  };
  return absl::OkStatus();
}

absl::Status JudgeByValue(const SearchHooks& hooks,
                          const std::vector<std::vector<int32_t>>& prompts, SearchJudge& judge) {
  if (!hooks.value) return NoCritic();
  judge.score = [&](size_t prompt, const std::vector<const SearchPath*>& paths) {
    return hooks.value(prompts[prompt], paths);
  };
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SearchResult>> RunSearchAsk(
    const SearchAsk& ask, const LoadedModel& loaded,
    const std::vector<std::vector<int32_t>>& prompts, const std::vector<std::string>& texts,
    const SamplingParams& sampling, const SearchHooks& hooks, const EngineOptions& options) {
  SearchJudge judge{nullptr, hooks.answer, hooks.same};
  if (ask.by_value()) RETURN_IF_ERROR(JudgeByValue(hooks, prompts, judge));
  if (ask.by_verifier()) {
    if (ask.answers.empty())
      return absl::InvalidArgumentError("search.answers: grader \"" + ask.scorer +
                                        "\" needs one for each prompt");
    for (const std::string& answer : ask.answers) RETURN_IF_ERROR(hooks.check(ask.scorer, answer));
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

}  // namespace tramontane
