// Model folders for callers that must not see torch (services): Transformer stays a name here.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

class Transformer;

// float32 on the CPU; errors as LoadTransformer.
absl::StatusOr<std::shared_ptr<Transformer>> LoadModelDir(const std::string& model_dir);

// Writes a whole Hugging Face folder beside `out_dir` and renames it into place, so that an
// `out_dir` that exists is complete. AlreadyExists when it does. Tokenizer files come from
// `tokenizer_source_dir`.
absl::Status SaveModelDir(const Transformer& model, const std::string& tokenizer_source_dir,
                          const std::string& out_dir);

}  // namespace tramontane
