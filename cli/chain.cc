#include "cli/chain.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "cli/stored_rows.h"
#include "cli/validate.h"
#include "common/algorithm_rules.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/kind_rules.h"
#include "common/stages.h"
#include "common/status.h"

namespace fs = std::filesystem;

namespace tramontane {
namespace {

// Empty while the stage has none.
absl::StatusOr<std::optional<Json>> OutputOf(const RunConfig& chain, size_t index,
                                             const std::string& run_dir) {
  const std::string path = StageOutputPath(StageRunDir(run_dir, chain, index));
  std::optional<Json> output;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return output;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, size_t{1} << 20));
  output = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const char* what = GivesModel(chain.stages[index].kind) ? "model" : "rows";
  if (!output->is_object() || !output->value(what, Json()).is_string())
    return absl::DataLossError(path + ": does not say where its " + what + " is");
  return output;
}

// The path that a reference stands for. `earlier`: the stages' outputs.
absl::StatusOr<std::string> PathOf(const RunConfig& chain, size_t index,
                                   const std::string& reference, bool wants_model,
                                   const std::vector<Json>& earlier) {
  const absl::StatusOr<int> stage = FindStage(chain, index, reference, wants_model);
  if (absl::IsNotFound(stage.status())) return reference;
  RETURN_IF_ERROR(stage.status());
  if (*stage < 0) return chain.model.path;
  return earlier[static_cast<size_t>(*stage)][wants_model ? "model" : "rows"].get<std::string>();
}

// Rows that an RL stage's rollouts give the stage that reads them, selected by its `reject`.
absl::StatusOr<std::string> RowsOfRollouts(const RunConfig& chain, size_t index,
                                           const std::string& run_dir, size_t source,
                                           const Json& output) {
  StageInputs stand_in;
  stand_in.data = "rows/of/a/stage";
  stand_in.models = chain.stages[index].models;
  ASSIGN_OR_RETURN(const RunConfig reader, StageConfig(chain, index, run_dir, stand_in));
  ASSIGN_OR_RETURN(const std::string tokenizer,
                   ReadFile(output.at("model").get<std::string>() + "/tokenizer.json"));
  const std::string path =
      StageRunDir(run_dir, chain, index) + ".input/" + chain.stages[source].name + ".jsonl";
  RETURN_IF_ERROR(SelectStoredRows(StageRunDir(run_dir, chain, source),
                                   output.value("step", int64_t{0}), reader.reject,
                                   Sha256Hex(tokenizer), path)
                      .status());
  return path;
}

// The file that a reference of `data` stands for.
absl::StatusOr<std::string> RowsOf(const RunConfig& chain, size_t index, const std::string& run_dir,
                                   const std::string& reference, const std::vector<Json>& earlier) {
  const absl::StatusOr<int> stage = FindStage(chain, index, reference, /*wants_model=*/false);
  if (stage.ok() && GivesModel(chain.stages[static_cast<size_t>(*stage)].kind)) {
    const auto source = static_cast<size_t>(*stage);
    return RowsOfRollouts(chain, index, run_dir, source, earlier[source]);
  }
  return PathOf(chain, index, reference, /*wants_model=*/false, earlier);
}

// Several files as one, in the stage's own folder.
absl::StatusOr<std::string> Concatenate(const std::vector<std::string>& paths,
                                        const std::string& folder) {
  if (paths.size() == 1) return paths.front();
  std::string all;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    all += text;
    if (!all.empty() && all.back() != '\n') all += '\n';
  }
  RETURN_IF_ERROR(MakeDirs(folder));
  const std::string path = folder + "/rows.jsonl";
  RETURN_IF_ERROR(WriteFileAtomic(path, all));
  return path;
}

absl::StatusOr<StageInputs> Inputs(const RunConfig& chain, size_t index, const std::string& run_dir,
                                   const std::vector<Json>& earlier) {
  const StageSection& stage = chain.stages[index];
  StageInputs inputs;
  if (!stage.from.empty()) {
    ASSIGN_OR_RETURN(inputs.model, PathOf(chain, index, stage.from, true, earlier));
  } else if (const int newest = NewestModel(chain, index); newest >= 0) {
    inputs.model = earlier[static_cast<size_t>(newest)]["model"];
  }
  for (const std::string& model : stage.models) {
    ASSIGN_OR_RETURN(std::string path, PathOf(chain, index, model, true, earlier));
    inputs.models.push_back(std::move(path));
  }
  std::vector<std::string> data;
  for (const std::string& reference : stage.data) {
    ASSIGN_OR_RETURN(std::string path, RowsOf(chain, index, run_dir, reference, earlier));
    data.push_back(std::move(path));
  }
  if (!data.empty()) {
    ASSIGN_OR_RETURN(inputs.data,
                     Concatenate(data, StageRunDir(run_dir, chain, index) + ".input"));
  }
  return inputs;
}

absl::Status RunStage(const RunConfig& chain, size_t index, const std::string& run_dir,
                      const std::vector<Json>& earlier, const StageRunner& runner) {
  ASSIGN_OR_RETURN(const StageInputs inputs, Inputs(chain, index, run_dir, earlier));
  ASSIGN_OR_RETURN(RunConfig config, StageConfig(chain, index, run_dir, inputs));
  std::error_code ignored;
  const std::string folder = StageRunDir(run_dir, chain, index);
  const bool begun = fs::exists(folder + "/configs/config.json", ignored);
  if (!begun) fs::remove_all(folder, ignored);  // killed before anything ran there
  ASSIGN_OR_RETURN(RunDir dir,
                   RunDir::Create(config, begun ? RunDirMode::kResume : RunDirMode::kNew));
  return runner(config, dir, begun);
}

}  // namespace

absl::Status CheckChain(const RunConfig& chain) {
  for (size_t i = 0; i < chain.stages.size(); ++i) {
    const StageSection& stage = chain.stages[i];
    const std::string where = "stage '" + stage.name + "'";
    std::vector<std::string> paths;
    const auto collect = [&](const std::string& reference, bool wants_model) {
      if (absl::IsNotFound(FindStage(chain, i, reference, wants_model).status()))
        paths.push_back(reference);
    };
    if (!stage.from.empty()) collect(stage.from, true);
    for (const std::string& model : stage.models) collect(model, true);
    for (const std::string& data : stage.data) collect(data, false);
    std::error_code ignored;
    for (const std::string& path : paths) {
      if (!fs::exists(path, ignored))
        return absl::NotFoundError(where + ": " + path + " does not exist");
    }
    const bool base = std::find(stage.models.begin(), stage.models.end(), "base") !=
                      stage.models.end();
    if (base && chain.model.path.empty()) {
      return absl::InvalidArgumentError(where +
                                        ": base is a fresh random model (model.init), which has no "
                                        "folder to take it from (rule base_is_a_folder)");
    }
    StageInputs inputs;
    if (!stage.data.empty()) inputs.data = "rows/of/a/stage";
    inputs.models = stage.models;
    ASSIGN_OR_RETURN(const RunConfig config, StageConfig(chain, i, "run", inputs));
    if (!config.sft.eval_data.empty() && !fs::exists(config.sft.eval_data, ignored)) {
      return absl::NotFoundError(where + ": sft.eval_data: " + config.sft.eval_data +
                                 " does not exist");
    }
    if (RunsAlone(config)) continue;
    RETURN_IF_ERROR(Annotate(CheckRunnable(config.algorithm), where));
    RETURN_IF_ERROR(Annotate(CheckAnswers(config), where));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<RunConfig>> LoadChain(const std::string& run_dir) {
  std::optional<RunConfig> chain;
  const std::string path = run_dir + "/configs/config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return chain;
  ASSIGN_OR_RETURN(RunConfig config, LoadConfig(path, {}));
  if (!config.stages.empty()) chain = std::move(config);
  return chain;
}

absl::StatusOr<Json> StageStates(const RunConfig& chain, const std::string& run_dir) {
  Json states = Json::array();
  for (size_t i = 0; i < chain.stages.size(); ++i) {
    const std::string dir = StageRunDir(run_dir, chain, i);
    ASSIGN_OR_RETURN(const std::optional<Json> output, OutputOf(chain, i, run_dir));
    std::error_code ignored;
    Json state = {{"name", chain.stages[i].name}, {"kind", chain.stages[i].kind}, {"run_dir", dir}};
    if (output) state.update(*output);
    state["state"] = output ? "done" : fs::exists(dir + "/configs", ignored) ? "started" : "pending";
    states.push_back(std::move(state));
  }
  return states;
}

absl::Status RunChain(const RunConfig& chain, const std::string& run_dir, const StageRunner& runner,
                      const std::function<void(const Json&)>& note) {
  std::vector<Json> outputs;
  for (size_t i = 0; i < chain.stages.size(); ++i) {
    const StageSection& stage = chain.stages[i];
    ASSIGN_OR_RETURN(std::optional<Json> output, OutputOf(chain, i, run_dir));
    if (!output) {
      note({{"event", "stage"},
            {"stage", stage.name},
            {"kind", stage.kind},
            {"number", i + 1},
            {"count", chain.stages.size()},
            {"state", "started"},
            {"run_dir", StageRunDir(run_dir, chain, i)}});
      const absl::Status status = RunStage(chain, i, run_dir, outputs, runner);
      if (!status.ok()) return Annotate(status, "stage '" + stage.name + "'");
      ASSIGN_OR_RETURN(output, OutputOf(chain, i, run_dir));
      if (!output) {
        return absl::InternalError("stage '" + stage.name + "' ended and wrote no output.json");
      }
      Json done = {{"event", "stage"}, {"stage", stage.name}, {"state", "done"}};
      done.update(*output);
      note(done);
    }
    outputs.push_back(*std::move(output));
  }
  return absl::OkStatus();
}

}  // namespace tramontane
