#include "services/generator/eval_command.h"

#include <vector>

#include "common/config.h"
#include "common/status.h"
#include "data/dataset.h"
#include "generator/tools.h"
#include "services/generator/row_graders.h"
#include "services/generator/search_hooks.h"
#include "services/run_files.h"

namespace tramontane {
namespace {

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
  RowGraders graders;
  ASSIGN_OR_RETURN(graders, MakeRowGraders(config, rows));
  SamplingParams sampling;
  sampling.temperature = options.temperature;
  sampling.max_new_tokens = options.max_new_tokens;
  sampling.seed = options.seed;
  Json search;
  ASSIGN_OR_RETURN(search, ReadSearch(options));
  SearchHooks hooks;
  ASSIGN_OR_RETURN(hooks, MakeSearchHooks(config.reward));
  RETURN_IF_ERROR(
      AddValueHook(options.value_model, options.model_dir, options.engine.threads, hooks));
  return EvalTool(options.model_dir, rows, sampling, options.samples_per_prompt, search,
                  options.engine, GradeBy(graders), hooks);
}

}  // namespace tramontane
