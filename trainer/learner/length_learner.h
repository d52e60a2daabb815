// Trains a length predictor (model/length_predictor.h) beside a model that stays as it is: the mean
// negative log-likelihood of log(L + 1) under what the heads say of the token that came next, over
// all tokens of thoughts and the first of the closing tag.
//
// One thread calls it; microbatches run on `trainer.threads` threads. Deterministic like the
// learner's own step. It learns in one process (rule length_predictor_learns_in_one_process).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "trainer/learner/learner.h"

namespace tramontane {

class Transformer;

// A response up to its closing tag's first token, which is its last.
struct LengthExample {
  std::vector<int32_t> prompt_tokens, response_tokens;
  int32_t first_thought = 0;  // of response_tokens; what is before it is context

  // L of response token `i`: thinking tokens left, that one included; of the closing tag 1, which
  // has no smaller logarithm.
  int64_t LengthAt(size_t i) const {
    return std::max<int64_t>(static_cast<int64_t>(response_tokens.size() - 1 - i), 1);
  }
};

class LengthLearner {
 public:
  static absl::StatusOr<std::unique_ptr<LengthLearner>> Create(const RunConfig& config,
                                                               std::shared_ptr<Transformer> model,
                                                               MetricsRegistry& metrics);
  ~LengthLearner();

  // One step of sft.*'s schedule; steps count from 1. metrics: length_error (mean |E log(L + 1) −
  // log(L + 1)|), length_sure (share of tokens whose prediction would count in guidance). A loss or
  // gradient that is not finite is a skipped report. Errors as Learner::Step.
  absl::StatusOr<StepReport> Step(const std::vector<LengthExample>& examples, int64_t step);

  // The loss of a step on these examples, by the predictor as it is.
  absl::StatusOr<double> HeldOutLoss(const std::vector<LengthExample>& examples) const;

  // The predictor and AdamW's moments as files of `dir`.
  absl::Status Save(const std::string& dir) const;
  absl::Status Load(const std::string& dir);
  // The predictor alone.
  absl::Status SavePredictor(const std::string& dir) const;

  const Transformer& model() const;

 private:
  class Impl;
  explicit LengthLearner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
