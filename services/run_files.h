// What trainer and generators of a run must agree on: where things lie in the run directory, and
// who they are.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "services/handshake.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tramontane {

// The resolved configuration (configs/resolved.json), or a YAML file as people write it.
// run.name is the run id and must be set.
absl::StatusOr<RunConfig> LoadRunConfig(const std::string& path);

// The model whose architecture and tokenizer the run has: model.path, or the folder in which the
// trainer puts the freshly initialised model.
std::string BaseModelDir(const RunConfig& config, const std::string& run_dir);
std::string SftModelDir(const std::string& run_dir);
std::string CheckpointsDir(const std::string& run_dir);
std::string BlobsDir(const std::string& run_dir);

struct TextTools {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none
};
absl::StatusOr<TextTools> LoadTextTools(const std::string& model_dir);

Identity MakeIdentity(const std::string& run_id, const TextTools& text);

}  // namespace tramontane
