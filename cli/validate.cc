#include "cli/validate.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "data/dataset.h"
#include "model/model_config.h"
#include "services/run_files.h"
#include "verifier/grader.h"
#include "verifier/sandbox/layers.h"

namespace tramontane {
namespace {

std::string TokenizerDir(const RunConfig& config) {
  return config.model.path.empty() ? config.model.init_tokenizer : config.model.path;
}

absl::StatusOr<ModelConfig> ModelConfigOf(const RunConfig& config) {
  if (!config.model.path.empty()) return LoadModelConfig(config.model.path);
  Json fields = Json::object();
  for (const auto& [key, value] : config.model.init) fields[key] = value;
  auto model = ParseModelConfig(fields);
  if (!model.ok()) return Annotate(model.status(), "model.init");
  return model;
}

using Graders = std::map<std::string, std::unique_ptr<Grader>>;

absl::StatusOr<Graders> MakeGraders(const RunConfig& config) {
  // What a sandbox elsewhere gives is its own affair.
  GraderTools tools;
  if (config.sandbox.address.empty()) tools.most = MostLimits(config.sandbox);
  Graders graders;
  for (const auto& [name, verifier] : config.verifiers) {
    if (verifier.builtin.empty()) continue;
    auto grader = MakeBuiltinGrader(verifier.builtin, config.reward, tools);
    if (!grader.ok()) return Annotate(grader.status(), "verifiers." + name + ".builtin");
    graders[name] = *std::move(grader);
  }
  return graders;
}

// Does the row name a verifier of the run and, where that is built in, is the gold answer one that
// it can read?
absl::Status CheckAnswer(const PromptRow& row, const RunConfig& config, const Graders& graders) {
  RETURN_IF_ERROR(CheckVerifierOf(row, config));
  ASSIGN_OR_RETURN(const std::string verifier, FindVerifier(config.verifiers, row.verifier));
  const auto grader = graders.find(verifier);
  if (grader == graders.end()) return absl::OkStatus();
  Json params = config.verifiers.at(verifier).params;
  params.update(row.params);
  return Annotate(grader->second->CheckRow(row.answer, params), "answer");
}

absl::StatusOr<Json> CheckPrompts(const RunConfig& config, const std::string& path,
                                  const TextTools& tools, const Graders& graders,
                                  const ModelConfig& model) {
  std::map<std::string, int64_t> by_verifier;
  size_t longest = 0;
  const auto check = [&](const PromptRow& row) -> absl::Status {
    RETURN_IF_ERROR(CheckAnswer(row, config, graders));
    ++by_verifier[row.verifier];
    longest = std::max(longest, row.prompt_tokens.size());
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(
      const std::vector<PromptRow> rows,
      LoadPrompts(path, config.data, *tools.tokenizer, tools.chat_template.get(), check));
  const auto needed = static_cast<int64_t>(longest) + config.rollout.max_new_tokens;
  if (needed > model.max_position_embeddings) {
    return absl::InvalidArgumentError(
        path + ": the longest prompt (" + std::to_string(longest) +
        " tokens) and rollout.max_new_tokens (" + std::to_string(config.rollout.max_new_tokens) +
        ") exceed the model's " + std::to_string(model.max_position_embeddings) + " positions");
  }
  const int64_t cache = int64_t{config.generator.kv_blocks} * config.generator.kv_block_tokens;
  if (needed > cache) {
    return absl::InvalidArgumentError("generator.kv_blocks: the cache holds " +
                                      std::to_string(cache) + " tokens, one rollout of " + path +
                                      " needs " + std::to_string(needed));
  }
  return Json{{"file", path},
              {"rows", rows.size()},
              {"longest_prompt_tokens", longest},
              {"rows_by_verifier", by_verifier}};
}

absl::StatusOr<Json> CheckSft(const std::string& path, const TextTools& tools,
                              const ModelConfig& model) {
  const int32_t eos = model.eos_token_ids.empty() ? -1 : model.eos_token_ids.front();
  ASSIGN_OR_RETURN(const std::vector<SftExample> examples,
                   LoadSftExamples(path, *tools.tokenizer, tools.chat_template.get(), eos));
  size_t longest = 0;
  for (const SftExample& example : examples) {
    longest = std::max(longest, example.prompt_tokens.size() + example.completion_tokens.size());
  }
  if (static_cast<int64_t>(longest) > model.max_position_embeddings) {
    return absl::InvalidArgumentError(path + ": the longest example (" + std::to_string(longest) +
                                      " tokens) exceeds the model's " +
                                      std::to_string(model.max_position_embeddings) + " positions");
  }
  return Json{{"file", path}, {"rows", examples.size()}, {"longest_example_tokens", longest}};
}

}  // namespace

absl::Status CheckAnswers(const RunConfig& config) {
  ASSIGN_OR_RETURN(const Graders graders, MakeGraders(config));
  for (const std::string& path : {config.data.train, config.data.eval}) {
    if (path.empty()) continue;
    RETURN_IF_ERROR(CheckRows(path, config.data, [&](const PromptRow& row) {
      return CheckAnswer(row, config, graders);
    }));
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ValidateRun(const RunConfig& config) {
  ASSIGN_OR_RETURN(const TextTools tools, LoadTextTools(TokenizerDir(config)));
  ASSIGN_OR_RETURN(const ModelConfig model, ModelConfigOf(config));
  ASSIGN_OR_RETURN(const Graders graders, MakeGraders(config));
  if (tools.tokenizer->vocab_size() > model.vocab_size) {
    return absl::InvalidArgumentError(
        "the tokenizer has " + std::to_string(tools.tokenizer->vocab_size()) +
        " tokens, the model's vocab_size is " + std::to_string(model.vocab_size));
  }
  Json files = Json::array();
  for (const std::string& path : {config.data.train, config.data.eval}) {
    if (path.empty()) continue;
    ASSIGN_OR_RETURN(Json file, CheckPrompts(config, path, tools, graders, model));
    files.push_back(std::move(file));
  }
  for (const std::string& path : {config.sft.data, config.sft.eval_data}) {
    if (path.empty()) continue;
    ASSIGN_OR_RETURN(Json file, CheckSft(path, tools, model));
    files.push_back(std::move(file));
  }
  return Json{{"ok", true}, {"files", files}, {"derived", DerivedNumbers(config)}};
}

}  // namespace tramontane
