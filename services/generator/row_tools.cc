#include "services/generator/row_tools.h"

#include <vector>

#include "common/config.h"
#include "common/files.h"
#include "common/status.h"
#include "common/thinking.h"
#include "data/dataset.h"
#include "generator/tools.h"
#include "services/generator/row_graders.h"
#include "services/generator/search_hooks.h"
#include "services/run_files.h"

namespace tramontane {
namespace {

struct RowTool {
  std::vector<PromptRow> rows;
  RowGraders graders;
  SearchHooks hooks;
  SamplingParams sampling;
};

// Null where the option is empty; else an object.
absl::StatusOr<Json> ReadObject(const std::string& option, const std::string& text) {
  if (text.empty()) return Json(nullptr);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return absl::InvalidArgumentError(option + ": is no JSON object: " + text);
}

absl::StatusOr<RowTool> Prepare(const RowToolOptions& options) {
  RowTool tool;
  tool.sampling = options.sampling;
  ASSIGN_OR_RETURN(const Json thinking, ReadObject("--thinking", options.thinking));
  if (!thinking.is_null()) {
    ASSIGN_OR_RETURN(tool.sampling.thinking, ThinkingFromJson(thinking));
  }
  RunConfig config;
  if (!options.config_path.empty()) {
    ASSIGN_OR_RETURN(config, LoadRunConfig(options.config_path));
  }
  TextTools text;
  ASSIGN_OR_RETURN(text, LoadTextTools(options.model_dir));
  ASSIGN_OR_RETURN(tool.rows, LoadPrompts(options.data_path, config.data, *text.tokenizer,
                                          text.chat_template.get()));
  ASSIGN_OR_RETURN(tool.graders, MakeRowGraders(config, tool.rows));
  ASSIGN_OR_RETURN(tool.hooks, MakeSearchHooks(config.reward));
  RETURN_IF_ERROR(
      AddValueHook(options.value_model, options.model_dir, options.engine.threads, tool.hooks));
  return tool;
}

// "beam" is short for {"method": "beam"}.
absl::StatusOr<Json> ReadSearch(const std::string& search, int32_t samples_per_prompt) {
  if (!search.empty() && samples_per_prompt != 1)
    return absl::InvalidArgumentError("--samples: a search has its own number of paths, search.n");
  if (!search.empty() && !search.starts_with("{")) return Json{{"method", search}};
  return ReadObject("--search", search);
}

}  // namespace

absl::StatusOr<Json> RunEval(const RowToolOptions& options, int32_t samples_per_prompt,
                             const std::string& search) {
  ASSIGN_OR_RETURN(const Json read, ReadSearch(search, samples_per_prompt));
  ASSIGN_OR_RETURN(const RowTool tool, Prepare(options));
  return EvalTool(options.model_dir, tool.rows, tool.sampling, samples_per_prompt, read,
                  options.engine, GradeBy(tool.graders), tool.hooks);
}

absl::StatusOr<Json> RunMakeData(const RowToolOptions& options, const DataOptions& data,
                                 const std::string& out_path) {
  ASSIGN_OR_RETURN(const RowTool tool, Prepare(options));
  MadeData made;
  ASSIGN_OR_RETURN(made, MakeData(options.model_dir, tool.rows, tool.sampling, data, options.engine,
                                  GradeBy(tool.graders), tool.hooks));
  std::string lines;
  for (const Json& row : made.rows)
    lines += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  RETURN_IF_ERROR(WriteFileAtomic(out_path, lines));
  made.summary["out"] = out_path;
  return made.summary;
}

}  // namespace tramontane
