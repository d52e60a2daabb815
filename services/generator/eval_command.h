// `tramontane eval`: a model folder's accuracy on a dataset, graded by the built-in graders.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/engine.h"

namespace tramontane {

struct EvalOptions {
  std::string model_dir;
  std::string data_path;
  std::string config_path;  // reward table, verifiers and data shape; empty: the defaults
  int32_t samples_per_prompt = 1;
  int32_t max_new_tokens = 256;
  double temperature = 0;
  uint64_t seed = 0;
  std::string search;  // a JSON object, or a method's name; empty: plain samples
  std::string value_model;  // a critic's folder, for the scorer `value`; empty: none
  EngineOptions engine;
};

// InvalidArgument when a row's verifier is not built in: those are asked in a run, not here.
absl::StatusOr<Json> RunEval(const EvalOptions& options);

}  // namespace tramontane
