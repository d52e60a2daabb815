#include "generator/tools.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "common/clock.h"
#include "common/record_io.h"
#include "common/scorers.h"
#include "common/status.h"
#include "generator/batch_run.h"
#include "generator/search/votes.h"
#include "generator/search_run.h"

namespace tramontane {
namespace {

absl::Status CheckKeys(const Json& in) {
  static const std::set<std::string> known = {
      "prompts", "max_new_tokens", "temperature",    "top_p",      "top_k",    "min_p", "seed",
      "n",       "stop",           "stop_token_ids", "ignore_eos", "thinking", "search"};
  if (!in.is_object()) return absl::InvalidArgumentError("the input must be a JSON object");
  for (const auto& [key, value] : in.items()) {
    if (!known.contains(key)) return absl::InvalidArgumentError("unknown key \"" + key + "\"");
  }
  if (!in.contains("prompts") || !in["prompts"].is_array())
    return absl::InvalidArgumentError("prompts must be a list of texts or lists of token ids");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const Json& prompt, const Tokenizer& tokenizer) {
  if (prompt.is_string())
    return tokenizer.Encode(prompt.get<std::string>(), /*add_special_tokens=*/true);
  if (!prompt.is_array())
    return absl::InvalidArgumentError("must be a text or a list of token ids");
  std::vector<int32_t> tokens;
  for (const Json& token : prompt) {
    if (!token.is_number_integer() || token < 0 || token > INT32_MAX)
      return absl::InvalidArgumentError("token ids must be integers from 0, got " + token.dump());
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

Json RolloutJson(const Rollout& rollout, size_t prompt_index) {
  Json json = ToJson(rollout);
  json["prompt_index"] = prompt_index;
  return json;
}

// Running means of one group of samples.
struct Tally {
  int64_t samples = 0, scored = 0, correct = 0, truncated = 0, tokens = 0;
  double reward = 0;

  void Add(const Rollout& rollout, const Verdict& verdict) {
    ++samples;
    tokens += static_cast<int64_t>(rollout.tokens.size());
    truncated += rollout.finish_reason == FinishReason::kLength;
    if (!verdict.score) return;
    ++scored;
    correct += verdict.correct;
    reward += *verdict.score;
  }
  Json Accuracy() const { return scored == 0 ? Json() : Json(1.0 * correct / scored); }
  Json MeanReward() const { return scored == 0 ? Json() : Json(reward / scored); }
};

// Chances over subsets of each prompt's samples; summed over prompts.
struct Subsets {
  std::map<int64_t, double> pass, majority;
  int64_t prompts = 0;

  void Add(const Answers& answers, const std::vector<uint8_t>& correct, const SameAnswer& same) {
    const auto n = static_cast<int64_t>(correct.size());
    const int64_t right = std::count(correct.begin(), correct.end(), 1);
    ++prompts;
    for (int64_t k = 1; k <= n; k *= 2) {
      pass[k] += PassAtK(n, right, k);
      majority[k] += MajorityAtK(answers, correct, k, same);
    }
  }
  Json Means(const std::map<int64_t, double>& sums) const {
    Json out = Json::object();
    for (const auto& [k, sum] : sums) out[std::to_string(k)] = sum / static_cast<double>(prompts);
    return out;
  }
};

std::string KindOf(const PromptRow& row) {
  if (row.params.is_object()) {
    const auto kind = row.params.find("kind");
    if (kind != row.params.end() && kind->is_string()) return kind->get<std::string>();
  }
  return row.verifier;
}

absl::StatusOr<Json> SearchPrompts(const LoadedModel& loaded,
                                   const std::vector<std::vector<int32_t>>& prompts,
                                   const Json& search, const SamplingParams& sampling,
                                   const SearchHooks& hooks, const EngineOptions& options) {
  ASSIGN_OR_RETURN(const SearchAsk ask, SearchAskFromJson(search, prompts.size()));
  std::vector<std::string> texts;
  for (const std::vector<int32_t>& prompt : prompts) {
    ASSIGN_OR_RETURN(std::string text, loaded.tokenizer->Decode(prompt, false));
    texts.push_back(std::move(text));
  }
  ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                   RunSearchAsk(ask, loaded, prompts, texts, sampling, hooks, options));
  Json out = Json::array();
  for (size_t p = 0; p < results.size(); ++p) {
    Json json = RolloutJson(results[p].best.rollout, p);
    json["sample_index"] = 0;
    json["search"] = SearchJson(ask.params, results[p]);
    out.push_back(std::move(json));
  }
  return Json{{"rollouts", std::move(out)}};
}

struct EvalSamples {
  std::vector<std::vector<Rollout>> rollouts;  // by row
  double tokens = 0;                           // all that were sampled
  Json search;                                 // null, or what it cost
};

// One completion for each row, chosen with the row's own grader.
absl::StatusOr<EvalSamples> SearchRows(const LoadedModel& loaded,
                                       const std::vector<PromptRow>& rows,
                                       const std::vector<std::vector<int32_t>>& prompts,
                                       const Json& search, const SamplingParams& sampling,
                                       const EngineOptions& options, const GradeFunction& grade,
                                       const SearchHooks& hooks) {
  Json params = search;
  const bool by_grader = !params.is_object() || params.value("scorer", Json("row")) == "row";
  if (params.is_object()) params.erase("scorer");
  SearchAsk ask;
  ASSIGN_OR_RETURN(ask.params, SearchFromJson(params));
  const bool by_value = !by_grader && search["scorer"] == kCriticScorer;
  if (!by_grader && !by_value && search["scorer"] != kPolicyScorer)
    return absl::InvalidArgumentError("search.scorer: must be row, value or mean_logprob");
  SearchJudge judge{nullptr, hooks.answer, hooks.same};
  if (by_grader) {
    judge.score =
        [&](size_t row,
            const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
      std::vector<double> scores;
      for (const SearchPath* path : paths) {
        ASSIGN_OR_RETURN(const Verdict verdict, grade(rows[row], path->rollout));
        if (!verdict.score)
          return absl::UnavailableError(rows[row].row_id +
                                        ": the grader gave no score: " + verdict.feedback);
        scores.push_back(*verdict.score);
      }
      return scores;
    };
  }
  if (by_value) RETURN_IF_ERROR(JudgeByValue(hooks, prompts, judge));
  ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                   RunSearches(loaded, prompts, sampling, ask.params, judge, options));
  EvalSamples samples;
  int64_t out_of_budget = 0;
  for (const SearchResult& result : results) {
    samples.rollouts.push_back({result.best.rollout});
    samples.tokens += static_cast<double>(result.sampled_tokens);
    out_of_budget += result.out_of_budget;
  }
  samples.search = {{"method", ask.params.method},
                    {"sampled_tokens", static_cast<int64_t>(samples.tokens)},
                    {"out_of_budget", out_of_budget}};
  return samples;
}

absl::StatusOr<EvalSamples> SampleRows(const LoadedModel& loaded,
                                       const std::vector<PromptRow>& rows,
                                       const SamplingParams& sampling, int32_t samples_per_prompt,
                                       const Json& search, const EngineOptions& options,
                                       const GradeFunction& grade, const SearchHooks& hooks) {
  std::vector<std::vector<int32_t>> prompts;
  for (const PromptRow& row : rows) prompts.push_back(row.prompt_tokens);
  if (!search.is_null())
    return SearchRows(loaded, rows, prompts, search, sampling, options, grade, hooks);
  EvalSamples samples;
  ASSIGN_OR_RETURN(samples.rollouts,
                   RunBatch(loaded, prompts, sampling, samples_per_prompt, options));
  for (const auto& rollouts : samples.rollouts)
    for (const Rollout& rollout : rollouts)
      samples.tokens += static_cast<double>(rollout.tokens.size());
  return samples;
}

}  // namespace

absl::StatusOr<Json> GenerateTool(const std::string& model_dir, const Json& in,
                                  const EngineOptions& options, const SearchHooks& hooks) {
  RETURN_IF_ERROR(CheckKeys(in));
  ASSIGN_OR_RETURN(const SamplingParams sampling, SamplingFromJson(in));
  int32_t samples = 1;
  if (in.contains("n")) {
    if (!in["n"].is_number_integer()) return absl::InvalidArgumentError("n must be an integer");
    samples = in["n"].get<int32_t>();
  }
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(model_dir));
  std::vector<std::vector<int32_t>> prompts;
  for (const Json& prompt : in["prompts"]) {
    absl::StatusOr<std::vector<int32_t>> tokens = PromptTokens(prompt, *loaded.tokenizer);
    if (!tokens.ok())
      return Annotate(tokens.status(), "prompts[" + std::to_string(prompts.size()) + "]");
    prompts.push_back(*std::move(tokens));
  }
  if (in.contains("search") && !in["search"].is_null()) {
    if (samples != 1) return absl::InvalidArgumentError("n: a search has search.n instead");
    return SearchPrompts(loaded, prompts, in["search"], sampling, hooks, options);
  }
  ASSIGN_OR_RETURN(const auto rollouts, RunBatch(loaded, prompts, sampling, samples, options));
  Json out = Json::array();
  for (size_t p = 0; p < rollouts.size(); ++p)
    for (const Rollout& rollout : rollouts[p]) out.push_back(RolloutJson(rollout, p));
  return Json{{"rollouts", std::move(out)}};
}

absl::StatusOr<Json> EvalTool(const std::string& model_dir, const std::vector<PromptRow>& rows,
                              const SamplingParams& sampling, int32_t samples_per_prompt,
                              const Json& search, const EngineOptions& options,
                              const GradeFunction& grade, const SearchHooks& hooks) {
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(model_dir));
  const auto before = std::chrono::steady_clock::now();
  EvalSamples sampled;
  ASSIGN_OR_RETURN(sampled, SampleRows(loaded, rows, sampling, samples_per_prompt, search, options,
                                       grade, hooks));
  const double seconds = SecondsSince(before);

  Tally all;
  Subsets subsets;
  std::map<std::string, Tally> kinds;
  for (size_t p = 0; p < rows.size(); ++p) {
    Answers answers;
    std::vector<uint8_t> correct;
    for (const Rollout& rollout : sampled.rollouts[p]) {
      absl::StatusOr<Verdict> verdict = grade(rows[p], rollout);
      if (!verdict.ok()) return Annotate(verdict.status(), rows[p].row_id);
      all.Add(rollout, *verdict);
      kinds[KindOf(rows[p])].Add(rollout, *verdict);
      if (!verdict->score || !hooks.answer) continue;
      answers.push_back(hooks.answer(rollout.text));
      correct.push_back(verdict->correct);
    }
    const bool complete = correct.size() == sampled.rollouts[p].size();
    if (complete && correct.size() > 1) subsets.Add(answers, correct, hooks.same);
  }
  Json out = {{"prompts", rows.size()},
              {"samples", all.samples},
              {"accuracy", all.Accuracy()},
              {"mean_reward", all.MeanReward()},
              {"mean_tokens", all.samples == 0 ? Json() : Json(1.0 * all.tokens / all.samples)},
              {"truncated", all.truncated},
              {"failures", all.samples - all.scored},
              {"generate_seconds", seconds},
              {"tokens_per_second", seconds > 0 ? sampled.tokens / seconds : 0.0},
              {"pass_at", subsets.Means(subsets.pass)},
              {"majority_at", subsets.Means(subsets.majority)},
              {"search", sampled.search},
              {"kinds", Json::object()}};
  for (const auto& [kind, tally] : kinds)
    out["kinds"][kind] = {{"samples", tally.samples},
                          {"accuracy", tally.Accuracy()},
                          {"mean_reward", tally.MeanReward()}};
  return out;
}

}  // namespace tramontane
