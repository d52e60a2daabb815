#include "generator/data_tool.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/status.h"
#include "generator/search/path_grower.h"
#include "generator/search_run.h"

namespace tramontane {
namespace {

Json PromptJson(const PromptRow& row, const std::string& id) {
  Json json = {{"id", id}};
  if (row.messages.empty()) {
    json["prompt"] = row.prompt;
    return json;
  }
  for (const PromptMessage& message : row.messages)
    json["messages"].push_back({{"role", message.role}, {"content", message.content}});
  return json;
}

absl::Status CheckData(const DataOptions& options) {
  if (options.kind != "sft" && options.kind != "labels" && options.kind != "values")
    return absl::InvalidArgumentError("kind: \"" + options.kind +
                                      "\" is none of sft, labels, values");
  if (options.samples < 1 || options.samples > 4096)
    return absl::InvalidArgumentError("samples: must be from 1 to 4096");
  if (options.step_end.empty()) return absl::InvalidArgumentError("step_end: must not be empty");
  if (options.max_steps < 1) return absl::InvalidArgumentError("max_steps: must be positive");
  if (!(options.min_agreement >= 0 && options.min_agreement <= 1))
    return absl::InvalidArgumentError("min_agreement: must be from 0 to 1");
  return absl::OkStatus();
}

// Judges with the rows' graders and counts those that gave no score. Any thread.
class CountingGrader {
 public:
  explicit CountingGrader(const GradeFunction& grade) : grade_(grade) {}

  // Null: no score.
  absl::StatusOr<std::optional<bool>> Correct(const PromptRow& row, const Rollout& rollout) {
    ASSIGN_OR_RETURN(const Verdict verdict, grade_(row, rollout));
    if (verdict.score) return std::optional(verdict.correct);
    ++failures_;
    return std::nullopt;
  }
  int64_t failures() const { return failures_; }

 private:
  const GradeFunction& grade_;
  std::atomic<int64_t> failures_ = 0;
};

// Of the responses of `result` that are correct and have ended by themselves the one that the
// critic thinks most of, or without one (`scored` false) the shortest; null: none.
absl::StatusOr<const SearchPath*> BestCorrect(const PromptRow& row, const SearchResult& result,
                                              bool scored, CountingGrader& grader) {
  const SearchPath* best = nullptr;
  for (const SearchPath& path : result.candidates) {
    const Rollout& rollout = path.rollout;
    if (rollout.finish_reason != FinishReason::kStop || rollout.text.empty()) continue;
    const bool better =
        best == nullptr ||
        (scored ? path.score > best->score : rollout.tokens.size() < best->rollout.tokens.size());
    if (!better) continue;
    ASSIGN_OR_RETURN(const std::optional<bool> correct, grader.Correct(row, rollout));
    if (correct.value_or(false)) best = &path;
  }
  return best;
}

absl::Status AddSftRow(const PromptRow& row, const SearchResult& result, bool scored,
                       CountingGrader& grader, std::vector<Json>& out) {
  ASSIGN_OR_RETURN(const SearchPath* const best, BestCorrect(row, result, scored, grader));
  if (best == nullptr) return absl::OkStatus();
  Json json = PromptJson(row, row.row_id);
  json["completion"] = best->rollout.text;
  if (scored) json["value"] = best->score;
  out.push_back(std::move(json));
  return absl::OkStatus();
}

void AddLabelRow(const PromptRow& row, const SearchResult& result, const DataOptions& options,
                 const SearchHooks& hooks, std::vector<Json>& out) {
  if (!result.best.answer || result.best.answer->empty()) return;
  const std::string& answer = *result.best.answer;
  const auto agreeing = std::ranges::count_if(result.candidates, [&](const SearchPath& path) {
    return path.answer && hooks.same(answer, *path.answer);
  });
  const double agreement = static_cast<double>(agreeing) / options.samples;
  if (agreement < options.min_agreement) return;
  Json json = PromptJson(row, row.row_id);
  json["answer"] = answer;
  json["verifier"] = row.verifier;
  json["params"] = row.params;
  json["params"]["agreement"] = agreement;
  out.push_back(std::move(json));
}

// One response of a prompt, step by step, each beginning continued `samples` times.
class StepValues {
 public:
  // `score`: a critic's, to compare with; may be empty.
  StepValues(const PromptRow& row, const DataOptions& options, PathGrower& grower,
             CountingGrader& grader, decltype(SearchTools::score) score)
      : row_(row), options_(options), grower_(grower), grader_(grader), score_(std::move(score)) {}

  absl::Status Run() {
    SearchPath path = grower_.Root();
    for (int32_t step = 0; step < options_.max_steps && !path.ended; ++step) {
      RETURN_IF_ERROR(grower_.Grow({&path}, /*to_end=*/step + 1 == options_.max_steps));
      RETURN_IF_ERROR(Judge(path, step));
    }
    return absl::OkStatus();
  }
  std::vector<Json> Take() { return std::move(rows_); }

 private:
  absl::Status Judge(const SearchPath& path, int32_t step) {
    std::vector<SearchPath> ends(path.ended ? 1 : 0, path);
    for (int32_t i = 0; i < options_.samples && !path.ended; ++i)
      ends.push_back(grower_.Fork(path));
    RETURN_IF_ERROR(grower_.Grow(PointersTo(ends), /*to_end=*/true));
    int32_t correct = 0, judged = 0;
    for (const SearchPath& end : ends) {
      ASSIGN_OR_RETURN(const std::optional<bool> right, grader_.Correct(row_, end.rollout));
      judged += right.has_value();
      correct += right.value_or(false);
    }
    if (judged == 0 || path.rollout.text.empty()) return absl::OkStatus();
    Json json = PromptJson(row_, row_.row_id + "#" + std::to_string(step));
    json["completion"] = path.rollout.text;
    json["answer"] = row_.answer;
    json["value"] = static_cast<double>(correct) / judged;
    json["step"] = step;
    json["correct"] = correct;
    json["continuations"] = judged;
    if (score_) {
      ASSIGN_OR_RETURN(const std::vector<double> predicted, score_({&path}));
      json["predicted"] = predicted[0];
    }
    rows_.push_back(std::move(json));
    return absl::OkStatus();
  }

  const PromptRow& row_;
  const DataOptions& options_;
  PathGrower& grower_;
  CountingGrader& grader_;
  const decltype(SearchTools::score) score_;
  std::vector<Json> rows_;
};

// What each prompt gives; `work` runs for several at a time.
struct PerPrompt {
  std::vector<std::vector<Json>> rows;
  std::vector<int64_t> sampled;

  explicit PerPrompt(size_t prompts) : rows(prompts), sampled(prompts, 0) {}
};

}  // namespace

absl::StatusOr<MadeData> MakeData(const std::string& model_dir, const std::vector<PromptRow>& rows,
                                  const SamplingParams& sampling, const DataOptions& options,
                                  const EngineOptions& engine, const GradeFunction& grade,
                                  const SearchHooks& hooks) {
  RETURN_IF_ERROR(CheckData(options));
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(model_dir));
  SearchParams params;
  const bool by_value = static_cast<bool>(hooks.value);
  params.method = by_value ? "weighted_best_of_n" : "majority";
  params.n = options.samples;
  params.step_end = options.step_end;
  CountingGrader grader(grade);
  PerPrompt made(rows.size());
  std::vector<std::vector<int32_t>> prompts;
  for (const PromptRow& row : rows) prompts.push_back(row.prompt_tokens);

  const auto work = [&](size_t p, EnginePaths& paths) -> absl::Status {
    SearchTools tools;
    tools.answer = hooks.answer;
    tools.same = hooks.same;
    if (by_value) {
      tools.score = [&hooks, &prompt = prompts[p]](const std::vector<const SearchPath*>& scored) {
        return hooks.value(prompt, scored);
      };
    }
    if (options.kind == "values") {
      tools.grow = [&paths](const std::vector<PathAsk>& asks) { return paths.Grow(asks); };
      PathGrower grower(params, sampling.max_new_tokens, tools);
      StepValues values(rows[p], options, grower, grader, tools.score);
      RETURN_IF_ERROR(values.Run());
      made.rows[p] = values.Take();
      made.sampled[p] = grower.sampled_tokens();
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const SearchResult result,
                     SearchIn(paths, params, sampling.max_new_tokens, std::move(tools)));
    made.sampled[p] = result.sampled_tokens;
    if (options.kind == "sft") return AddSftRow(rows[p], result, by_value, grader, made.rows[p]);
    AddLabelRow(rows[p], result, options, hooks, made.rows[p]);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachPrompt(loaded, prompts, sampling, params, engine, work));

  MadeData data;
  int64_t sampled = 0;
  for (size_t p = 0; p < rows.size(); ++p) {
    std::ranges::move(made.rows[p], std::back_inserter(data.rows));
    sampled += made.sampled[p];
  }
  data.summary = {{"kind", options.kind},
                  {"prompts", rows.size()},
                  {"rows", data.rows.size()},
                  {"sampled_tokens", sampled},
                  {"failures", grader.failures()}};
  return data;
}

}  // namespace tramontane
