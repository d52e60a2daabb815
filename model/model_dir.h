// Model folders for callers that must not see torch (services): Transformer stays a name here.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

class LengthPredictor;
class Transformer;

// float32 on the CPU; errors as LoadTransformer.
absl::StatusOr<std::shared_ptr<Transformer>> LoadModelDir(const std::string& model_dir);

// The length predictor beside the model (model/length_predictor.h); null where there is none.
// InvalidArgument: it is not this model's, and why.
absl::StatusOr<std::shared_ptr<const LengthPredictor>> FindLengthPredictor(
    const std::string& model_dir);

// Writes a whole Hugging Face folder beside `out_dir` and renames it into place, so that an
// `out_dir` that exists is complete. AlreadyExists when it does. Tokenizer files come from
// `tokenizer_source_dir`; `add`, if any, writes what else belongs into the folder it is told.
absl::Status SaveModelDir(const Transformer& model, const std::string& tokenizer_source_dir,
                          const std::string& out_dir,
                          const std::function<absl::Status(const std::string& dir)>& add = nullptr);

}  // namespace tramontane
