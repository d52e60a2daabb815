#include "services/generator/data_command.h"

#include <vector>

#include "common/config.h"
#include "common/files.h"
#include "common/status.h"
#include "data/dataset.h"
#include "services/generator/row_graders.h"
#include "services/generator/search_hooks.h"
#include "services/run_files.h"

namespace tramontane {

absl::StatusOr<Json> RunMakeData(const DataCommandOptions& options) {
  RunConfig config;
  if (!options.config_path.empty()) {
    ASSIGN_OR_RETURN(config, LoadRunConfig(options.config_path));
  }
  TextTools text;
  ASSIGN_OR_RETURN(text, LoadTextTools(options.model_dir));
  std::vector<PromptRow> rows;
  ASSIGN_OR_RETURN(
      rows, LoadPrompts(options.data_path, config.data, *text.tokenizer, text.chat_template.get()));
  RowGraders graders;
  ASSIGN_OR_RETURN(graders, MakeRowGraders(config, rows));
  SearchHooks hooks;
  ASSIGN_OR_RETURN(hooks, MakeSearchHooks(config.reward));
  RETURN_IF_ERROR(
      AddValueHook(options.value_model, options.model_dir, options.engine.threads, hooks));
  MadeData made;
  ASSIGN_OR_RETURN(made, MakeData(options.model_dir, rows, options.sampling, options.data,
                                  options.engine, GradeBy(graders), hooks));
  std::string lines;
  for (const Json& row : made.rows)
    lines += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  RETURN_IF_ERROR(WriteFileAtomic(options.out_path, lines));
  made.summary["out"] = options.out_path;
  return made.summary;
}

}  // namespace tramontane
