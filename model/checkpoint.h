// Hugging Face checkpoints: config.json, safetensors (single file or shards with an index),
// tokenizer files, generation_config, chat template. Files are treated as hostile.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/transformer.h"

namespace tramontane {

// Errors: NotFound (file, shard or tensor, named), DataLoss (truncated, overlapping, wrong shape
// or dtype), InvalidArgument (config).
absl::StatusOr<std::shared_ptr<Transformer>> LoadTransformer(const std::string& model_dir,
                                                             at::Device device = at::kCPU,
                                                             at::ScalarType dtype = at::kFloat);

// Writes a complete Hugging Face folder into `out_dir` (which must exist, files are fsynced):
// weights in the model's dtype, config.json, and the tokenizer side files found in `source_dir`.
// Shards are cut at `max_shard_bytes`.
absl::Status SaveTransformer(const Transformer& model, const std::string& source_dir,
                             const std::string& out_dir,
                             int64_t max_shard_bytes = int64_t{5} << 30);

}  // namespace tramontane
