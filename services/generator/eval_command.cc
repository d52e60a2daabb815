#include "services/generator/eval_command.h"

#include <map>
#include <memory>
#include <vector>

#include "common/config.h"
#include "common/status.h"
#include "data/dataset.h"
#include "generator/tools.h"
#include "services/generator/search_hooks.h"
#include "services/run_files.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

using Graders = std::map<std::string, std::unique_ptr<Grader>>;

// One grader for each verifier that the rows name.
absl::StatusOr<Graders> MakeGraders(const RunConfig& config, const std::vector<PromptRow>& rows) {
  Graders graders;
  for (const PromptRow& row : rows) {
    if (graders.contains(row.verifier)) continue;
    const auto section = config.verifiers.find(row.verifier);
    const bool configured = section != config.verifiers.end();
    if (configured && section->second.builtin.empty()) {
      return absl::InvalidArgumentError("row " + row.row_id + ": verifier '" + row.verifier +
                                        "' is a service of its own; eval knows built-in graders only");
    }
    const std::string name = configured ? section->second.builtin : row.verifier;
    absl::StatusOr<std::unique_ptr<Grader>> grader = MakeBuiltinGrader(name, config.reward);
    if (!grader.ok()) return Annotate(grader.status(), "row " + row.row_id);
    graders[row.verifier] = *std::move(grader);
  }
  return graders;
}

GradeRequest RequestFor(const PromptRow& row, const Rollout& rollout) {
  return {.prompt = row.prompt,
          .completion = rollout.text,
          .completion_tokens = static_cast<int32_t>(rollout.tokens.size()),
          .finish_reason = rollout.finish_reason,
          .answer = row.answer,
          .params = row.params};
}

// "beam" is short for {"method": "beam"}.
absl::StatusOr<Json> ReadSearch(const EvalOptions& options) {
  if (options.search.empty()) return Json(nullptr);
  if (options.samples_per_prompt != 1) {
    return absl::InvalidArgumentError("--samples: a search has its own number of paths, search.n");
  }
  if (!options.search.starts_with("{")) return Json{{"method", options.search}};
  Json search = Json::parse(options.search, nullptr, /*allow_exceptions=*/false);
  if (search.is_discarded()) return absl::InvalidArgumentError("--search: is no JSON object");
  return search;
}

}  // namespace

absl::StatusOr<Json> RunEval(const EvalOptions& options) {
  RunConfig config;
  if (!options.config_path.empty()) {
    ASSIGN_OR_RETURN(config, LoadRunConfig(options.config_path));
  }
  TextTools text;
  ASSIGN_OR_RETURN(text, LoadTextTools(options.model_dir));
  std::vector<PromptRow> rows;
  ASSIGN_OR_RETURN(rows, LoadPrompts(options.data_path, config.data, *text.tokenizer,
                                     text.chat_template.get()));
  Graders graders;
  ASSIGN_OR_RETURN(graders, MakeGraders(config, rows));
  SamplingParams sampling;
  sampling.temperature = options.temperature;
  sampling.max_new_tokens = options.max_new_tokens;
  sampling.seed = options.seed;
  Json search;
  ASSIGN_OR_RETURN(search, ReadSearch(options));
  SearchHooks hooks;
  ASSIGN_OR_RETURN(hooks, MakeSearchHooks(config.reward));
  return EvalTool(options.model_dir, rows, sampling, options.samples_per_prompt, search,
                  options.engine,
                  [&graders](const PromptRow& row, const Rollout& rollout) -> absl::StatusOr<Verdict> {
                    return graders.at(row.verifier)->Grade(RequestFor(row, rollout));
                  },
                  hooks);
}

}  // namespace tramontane
