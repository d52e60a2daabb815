// `tramontane eval` and `tramontane make-data`: a model samples the prompts of a dataset, and the
// built-in graders judge what comes out.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/data_tool.h"
#include "generator/engine.h"

namespace tramontane {

struct RowToolOptions {
  std::string model_dir;
  std::string data_path;
  std::string config_path;  // reward table, verifiers and data shape; empty: the defaults
  std::string value_model;  // a critic's folder, for the scorer `value`; empty: none
  std::string thinking;     // a JSON object (common/thinking.h); empty: no control
  SamplingParams sampling;
  EngineOptions engine;
};

// Accuracy on the dataset, as EvalTool() says it. `search`: a JSON object, or a method's name;
// empty: plain samples. InvalidArgument when a row's verifier is not built in: those are asked in a
// run, not here.
absl::StatusOr<Json> RunEval(const RowToolOptions& options, int32_t samples_per_prompt,
                             const std::string& search);

// Training rows, written to `out_path` (JSONL) whole at the end; the summary. InvalidArgument as
// RunEval() and MakeData(); nothing is written then.
absl::StatusOr<Json> RunMakeData(const RowToolOptions& options, const DataOptions& data,
                                 const std::string& out_path);

}  // namespace tramontane
