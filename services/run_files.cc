#include "services/run_files.h"

#include "common/files.h"
#include "common/status.h"

namespace tramontane {

absl::StatusOr<RunConfig> LoadRunConfig(const std::string& path) {
  RunConfig config;
  if (path.ends_with(".json")) {
    std::string text;
    ASSIGN_OR_RETURN(text, ReadFile(path));
    const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return absl::InvalidArgumentError(path + ": not a JSON document");
    absl::StatusOr<RunConfig> parsed = ConfigFromJson(json);
    if (!parsed.ok()) return Annotate(parsed.status(), path);
    config = *std::move(parsed);
  } else {
    ASSIGN_OR_RETURN(config, LoadConfig(path, {}));
  }
  if (config.run.name.empty()) return absl::InvalidArgumentError(path + ": run.name is not set");
  return config;
}

std::string BaseModelDir(const RunConfig& config, const std::string& run_dir) {
  return config.model.path.empty() ? run_dir + "/init/hf" : config.model.path;
}
std::string SftModelDir(const std::string& run_dir) { return run_dir + "/sft/hf"; }
std::string CheckpointsDir(const std::string& run_dir) { return run_dir + "/checkpoints"; }
std::string BlobsDir(const std::string& run_dir) { return run_dir + "/blobs"; }

absl::StatusOr<TextTools> LoadTextTools(const std::string& model_dir) {
  TextTools text;
  ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Load(model_dir));
  absl::StatusOr<std::shared_ptr<const ChatTemplate>> chat_template = ChatTemplate::Load(model_dir);
  if (chat_template.ok()) {
    text.chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return text;
}

Identity MakeIdentity(const std::string& run_id, const TextTools& text) {
  return {.run_id = run_id,
          .tokenizer_sha256 = text.tokenizer->sha256(),
          .template_sha256 = text.chat_template == nullptr ? "" : text.chat_template->sha256()};
}

}  // namespace tramontane
