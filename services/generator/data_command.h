// `tramontane make-data`: training rows out of a model's own responses, judged by built-in graders.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/data_tool.h"

namespace tramontane {

struct DataCommandOptions {
  std::string model_dir;
  std::string data_path;
  std::string out_path;     // JSONL, written whole at the end
  std::string config_path;  // reward table, verifiers and data shape; empty: the defaults
  DataOptions data;
  SamplingParams sampling;
  std::string value_model;  // a critic's folder; empty: none has a say
  EngineOptions engine;
};

// The summary. InvalidArgument as MakeRowGraders() and MakeData(); nothing is written then.
absl::StatusOr<Json> RunMakeData(const DataCommandOptions& options);

}  // namespace tramontane
