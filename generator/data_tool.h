// Training data out of a model's own responses, by the searches' machinery (`tramontane
// make-data`).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "generator/batch_run.h"
#include "generator/engine.h"
#include "generator/tools.h"

namespace tramontane {

struct DataOptions {
  // sft     of `samples` responses to a prompt the shortest that is correct and has ended
  // labels  the answer that most of `samples` responses give, as the prompt's gold answer
  // values  a response step by step; of each beginning the share of `samples` continuations that
  //         are correct
  std::string kind = "sft";
  int32_t samples = 8;
  double min_agreement = 0.5;  // labels: share of the samples that give the answer
  std::string step_end = "\n\n";
  int32_t max_steps = 40;  // values: the last one runs to the end
};

struct MadeData {
  std::vector<Json> rows;
  Json summary;  // {"kind", "prompts", "rows", "sampled_tokens", "failures"}
};

// Rows that the prompt and SFT readers of data/dataset.h take, in the order of the prompts:
//   sft     {"id", "prompt" or "messages", "completion"}
//   labels  {"id", "prompt" or "messages", "answer", "verifier", "params" with "agreement"}
//   values  {"id", "prompt" or "messages", "completion", "answer", "value", "step", "correct",
//            "continuations"}
// A prompt that gives nothing has no row. Verdicts without a score are counted as failures and
// decide nothing. With a critic (hooks.value) sft rows are the correct responses that it thinks
// most of, with "value"; labels the answers with the largest sum of values; and rows of `values`
// say by "predicted" what it thinks of the beginning.
absl::StatusOr<MadeData> MakeData(const std::string& model_dir, const std::vector<PromptRow>& rows,
                                  const SamplingParams& sampling, const DataOptions& options,
                                  const EngineOptions& engine, const GradeFunction& grade,
                                  const SearchHooks& hooks);

}  // namespace tramontane
