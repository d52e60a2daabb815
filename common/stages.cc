#include "common/stages.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "common/kind_rules.h"
#include "common/presets.h"
#include "common/status.h"

namespace tramontane {
namespace {

std::string Where(size_t index, const char* field) {
  return "stages[" + std::to_string(index) + "]." + field;
}

bool IsName(const std::string& text) {
  return !text.empty() && text != "base" && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
}

absl::Status CheckReferences(const RunConfig& chain, size_t index) {
  const StageSection& stage = chain.stages[index];
  const auto check = [&](const std::string& reference, const char* field, bool wants_model) {
    const absl::Status found = FindStage(chain, index, reference, wants_model).status();
    return found.ok() || absl::IsNotFound(found) ? absl::OkStatus()
                                                 : Annotate(found, Where(index, field));
  };
  if (!stage.from.empty()) RETURN_IF_ERROR(check(stage.from, "from", true));
  for (const std::string& data : stage.data) RETURN_IF_ERROR(check(data, "data", false));
  for (const std::string& model : stage.models) RETURN_IF_ERROR(check(model, "models", true));
  return absl::OkStatus();
}

// What an RL stage stored is selected from by the stage that reads it: into pairs for dpo, else
// into rows.
absl::Status CheckSelection(const RunConfig& chain, size_t index, const RunConfig& config) {
  for (const std::string& data : chain.stages[index].data) {
    const absl::StatusOr<int> stage = FindStage(chain, index, data, /*wants_model=*/false);
    if (!stage.ok() || chain.stages[static_cast<size_t>(*stage)].kind != "rl") continue;
    const bool pairs = KeepsPairs(config.reject);
    if (pairs == (config.run.kind == "dpo")) continue;
    return absl::InvalidArgumentError(Where(index, "set.reject.keep") + ": '" + config.reject.keep +
                                      "' of the rollouts of '" + data + "' does not make " +
                                      (pairs ? "rows for " : "pairs for ") + config.run.kind +
                                      " (rule rollouts_are_selected_for_their_reader)");
  }
  return absl::OkStatus();
}

absl::Status CheckStage(const RunConfig& chain, size_t index) {
  const StageSection& stage = chain.stages[index];
  RETURN_IF_ERROR(CheckKind(stage.kind, Where(index, "kind")));
  for (const char* key : {"stages", "preset"}) {
    const auto found = stage.set.find(key);
    if (found == stage.set.end() || (key == std::string("preset") && found->is_string())) continue;
    return absl::InvalidArgumentError(Where(index, "set.") + key + ": cannot be set in a stage");
  }
  RETURN_IF_ERROR(CheckReferences(chain, index));
  const bool takes_rows = stage.kind == "sft" || stage.kind == "dpo" || stage.kind == "distill" ||
                          stage.kind == "length_predictor";
  if (!takes_rows && !stage.data.empty()) {
    return absl::InvalidArgumentError(Where(index, "data") + ": " + stage.kind +
                                      " reads prompts, set.data.train, not rows "
                                      "(rule rows_are_for_supervised_stages)");
  }
  if (stage.kind != "merge" && stage.models.size() > (stage.kind == "distill" ? 1u : 0u)) {
    return absl::InvalidArgumentError(Where(index, "models") +
                                      ": only merge takes models, and distill one, its teacher "
                                      "(rule models_are_for_merge_and_distill)");
  }
  StageInputs inputs;
  inputs.model = NewestModel(chain, index) < 0 && stage.from.empty() ? "" : "model/of/a/stage";
  if (!stage.data.empty()) inputs.data = "rows/of/a/stage";
  inputs.models = stage.models;
  ASSIGN_OR_RETURN(const RunConfig config, StageConfig(chain, index, "run", inputs));
  return CheckSelection(chain, index, config);
}

}  // namespace

std::string StageRunDir(const std::string& run_dir, const RunConfig& chain, size_t index) {
  return run_dir + "/stages/" + chain.run.name + "-" + chain.stages[index].name;
}

std::string StageOutputPath(const std::string& stage_run_dir) {
  return stage_run_dir + "/output.json";
}

int NewestModel(const RunConfig& chain, size_t index) {
  for (int i = static_cast<int>(index) - 1; i >= 0; --i) {
    if (GivesModel(chain.stages[static_cast<size_t>(i)].kind)) return i;
  }
  return -1;
}

absl::StatusOr<int> FindStage(const RunConfig& chain, size_t index, const std::string& reference,
                              bool wants_model) {
  if (wants_model && reference == "base") return -1;
  for (size_t i = 0; i < index; ++i) {
    if (chain.stages[i].name != reference) continue;
    const std::string& kind = chain.stages[i].kind;
    if (wants_model ? GivesModel(kind) : GivesRows(kind)) return static_cast<int>(i);
    return absl::InvalidArgumentError("stage '" + reference + "' (" + chain.stages[i].kind +
                                      ") gives " + (wants_model ? "rows, no model" : "a model, no rows") +
                                      " (rule a_stage_gives_what_the_next_takes)");
  }
  if (IsName(reference)) {
    return absl::InvalidArgumentError("'" + reference +
                                      "' is no stage before this one (a path has a '/' or a '.' in "
                                      "it) (rule stages_take_from_earlier_ones)");
  }
  return absl::NotFoundError(reference + " is a path");
}

absl::StatusOr<RunConfig> StageConfig(const RunConfig& chain, size_t index,
                                      const std::string& run_dir, const StageInputs& inputs) {
  const StageSection& stage = chain.stages[index];
  Json json = ToJson(chain);
  json["stages"] = Json::array();
  // The chain's cold start, if it has one, is not every stage's.
  json["sft"]["data"] = "";
  if (const auto preset = stage.set.find("preset"); preset != stage.set.end()) {
    ASSIGN_OR_RETURN(const Preset found, FindPreset(preset->get<std::string>()));
    LayOver(found.config, json);
  }
  LayOver(stage.set, json);
  Json& run = json["run"];
  run["kind"] = stage.kind;
  run["name"] = chain.run.name + "-" + stage.name;
  run["output_dir"] = run_dir + "/stages";
  run["stage"] = stage.name;
  run["stage_number"] = index + 1;
  run["stage_count"] = chain.stages.size();
  if (!inputs.model.empty()) {
    json["model"] = {{"path", inputs.model}};
  }
  if (!inputs.data.empty()) json["sft"]["data"] = inputs.data;
  if (json["sft"]["data"] == "") json["sft"]["steps"] = 0;
  if (stage.kind == "merge" && !inputs.models.empty()) json["merge"]["models"] = inputs.models;
  if (stage.kind == "distill" && !inputs.models.empty())
    json["distill"]["teacher"] = inputs.models.front();
  auto config = ConfigFromJson(json);
  if (!config.ok()) return Annotate(config.status(), "stage '" + stage.name + "'");
  return config;
}

absl::Status ValidateStages(const RunConfig& chain) {
  std::set<std::string> names;
  for (size_t i = 0; i < chain.stages.size(); ++i) {
    const std::string& name = chain.stages[i].name;
    if (!IsName(name) || !names.insert(name).second) {
      return absl::InvalidArgumentError(
          Where(i, "name") + ": '" + name +
          "' must be letters, digits, - and _, not 'base', and no other stage's "
          "(rule stages_have_names)");
    }
    RETURN_IF_ERROR(CheckStage(chain, i));
  }
  return absl::OkStatus();
}

}  // namespace tramontane
