// From a row of logits to a sample's next token: by its request's rules, guided where its thinking
// is, drawn from what its sampling parameters leave. And what a prompt's own tokens are worth. One
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "generator/active_sample.h"
#include "generator/core/sampler.h"
#include "generator/draw_rules.h"
#include "generator/engine.h"
#include "generator/engine_metrics.h"
#include "generator/length_guide.h"
#include "generator/weighed_row.h"
#include "model/logit_rows.h"

namespace tramontane {

class TokenDraw {
 public:
  // `metrics` outlives it.
  TokenDraw(const EngineOptions& options, EngineMetrics& metrics);

  // `rules`: the sample's, where its request has any. Logits that are not finite are said so by the
  // token. Internal: the grammar cannot go on.
  absl::StatusOr<SampledToken> Draw(ActiveSample& sample, std::optional<RuledDraw>& rules,
                                    const LogitRows& logits, int64_t logit_row);

  // Adds to `scored` what `rows` rows from `first_row` on, the first of them behind the prompt's
  // token `start`, say of the tokens that follow, as far as it is not there. True: it is whole.
  bool ScorePrompt(const SampleRequest& asked, int32_t start, const LogitRows& logits,
                   int64_t first_row, int32_t rows, PromptLogprobs& scored);

 private:
  // What guidance makes of a row of finite logits.
  absl::StatusOr<RuledDraw::Row> Guide(const RuledDraw::Row& row, std::span<const float> hidden_D,
                                       int32_t remaining, double temperature);

  EngineMetrics& metrics_;
  Sampler sampler_;
  std::optional<LengthGuide> guide_;  // where there is a length predictor
  WeighedRow weighed_;
};

}  // namespace tramontane
