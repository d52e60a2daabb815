// A fresh model folder: random weights from a handful of config fields and a tokenizer to go with.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

// `config_fields`: config.json as transformers would write it, where only model_type and the sizes
// are needed; vocab_size may be left out to take the tokenizer's. `tokenizer_dir` (may be empty)
// gives the side files. `out_dir` must exist and must not hold a model. One seed, one model.
// Returns the number of parameters. InvalidArgument (field), AlreadyExists, NotFound.
absl::StatusOr<int64_t> InitModel(const nlohmann::json& config_fields,
                                  const std::string& tokenizer_dir, const std::string& out_dir,
                                  uint64_t seed);

}  // namespace tramontane
