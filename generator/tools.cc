#include "generator/tools.h"

#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "common/clock.h"
#include "common/record_io.h"
#include "common/status.h"
#include "generator/batch_run.h"
#include "generator/usage.h"

namespace tramontane {
namespace {

absl::Status CheckKeys(const Json& in) {
  static const std::set<std::string> known = {
      "prompts", "max_new_tokens", "temperature",    "top_p",      "top_k",   "min_p", "seed",
      "n",       "stop",           "stop_token_ids", "ignore_eos", "thinking"};
  if (!in.is_object()) return absl::InvalidArgumentError("the input must be a JSON object");
  for (const auto& [key, value] : in.items()) {
    if (!known.contains(key)) return absl::InvalidArgumentError("unknown key \"" + key + "\"");
  }
  if (in.contains("thinking") && !in["thinking"].is_null())
    return absl::UnimplementedError("thinking: thinking control is not implemented; use null");
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

Json RolloutJson(const Rollout& rollout, size_t prompt_index, const TokenUsage& usage) {
  Json json = ToJson(rollout);
  json["prompt_index"] = prompt_index;
  json["usage"] = {
      {"thinking", usage.thinking}, {"answer", usage.answer}, {"injected", usage.injected}};
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

std::string KindOf(const PromptRow& row) {
  if (row.params.is_object()) {
    const auto kind = row.params.find("kind");
    if (kind != row.params.end() && kind->is_string()) return kind->get<std::string>();
  }
  return row.verifier;
}

}  // namespace

absl::StatusOr<Json> GenerateTool(const std::string& model_dir, const Json& in,
                                  const EngineOptions& options) {
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
  ASSIGN_OR_RETURN(const auto rollouts, RunBatch(loaded, prompts, sampling, samples, options));
  Json out = Json::array();
  for (size_t p = 0; p < rollouts.size(); ++p) {
    ASSIGN_OR_RETURN(const std::string prompt_text, loaded.tokenizer->Decode(prompts[p], false));
    for (const Rollout& rollout : rollouts[p])
      out.push_back(
          RolloutJson(rollout, p, CountUsage(prompt_text, rollout.tokens, loaded.tokenizer)));
  }
  return Json{{"rollouts", std::move(out)}};
}

absl::StatusOr<Json> EvalTool(const std::string& model_dir, const std::vector<PromptRow>& rows,
                              const SamplingParams& sampling, int32_t samples_per_prompt,
                              const EngineOptions& options, const GradeFunction& grade) {
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(model_dir));
  std::vector<std::vector<int32_t>> prompts;
  for (const PromptRow& row : rows) prompts.push_back(row.prompt_tokens);
  const auto before = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const auto rollouts,
                   RunBatch(loaded, prompts, sampling, samples_per_prompt, options));
  const double seconds = SecondsSince(before);

  Tally all;
  std::map<std::string, Tally> kinds;
  for (size_t p = 0; p < rows.size(); ++p) {
    for (const Rollout& rollout : rollouts[p]) {
      absl::StatusOr<Verdict> verdict = grade(rows[p], rollout);
      if (!verdict.ok()) return Annotate(verdict.status(), rows[p].row_id);
      all.Add(rollout, *verdict);
      kinds[KindOf(rows[p])].Add(rollout, *verdict);
    }
  }
  Json out = {{"prompts", rows.size()},
              {"samples", all.samples},
              {"accuracy", all.Accuracy()},
              {"mean_reward", all.MeanReward()},
              {"mean_tokens", all.samples == 0 ? Json() : Json(1.0 * all.tokens / all.samples)},
              {"truncated", all.truncated},
              {"failures", all.samples - all.scored},
              {"generate_seconds", seconds},
              {"tokens_per_second", seconds > 0 ? all.tokens / seconds : 0.0},
              {"kinds", Json::object()}};
  for (const auto& [kind, tally] : kinds)
    out["kinds"][kind] = {{"samples", tally.samples},
                          {"accuracy", tally.Accuracy()},
                          {"mean_reward", tally.MeanReward()}};
  return out;
}

}  // namespace tramontane
