#include "generator/token_draw.h"

#include <vector>

#include "common/status.h"
#include "generator/core/row_math.h"

namespace tramontane {

TokenDraw::TokenDraw(const EngineOptions& options, EngineMetrics& metrics) : metrics_(metrics) {
  if (options.length_predictor != nullptr)
    guide_.emplace(options.length_predictor, options.threads);
}

absl::StatusOr<SampledToken> TokenDraw::Draw(ActiveSample& sample, std::optional<RuledDraw>& rules,
                                             const LogitRows& logits, int64_t logit_row) {
  const SampleRequest& asked = sample.request().request;
  const std::span<const float> logits_V = logits[logit_row];
  RuledDraw::Row row{logits_V, {}};
  if (rules) {
    // Of what came before the first draw the rules have not heard yet.
    RETURN_IF_ERROR(rules->Follow(sample.response(), sample.injected()).status());
    ASSIGN_OR_RETURN(row, rules->Apply(logits_V));
  }
  const SamplingParams* sampling = &asked.sampling;
  SamplingParams plain;
  const std::optional<int32_t> remaining = sample.GuidedRemaining();
  if (remaining && AllFinite(row.logits)) {  // what is not is the sampler's to find
    if (asked.plan->plain_draw && sampling->temperature != 0) sampling = &plain;
    ASSIGN_OR_RETURN(row, Guide(row, logits.Hidden(logit_row), *remaining, sampling->temperature));
  }
  SampledToken token = sampler_.Sample(row.logits, *sampling, sample.NextDraw());
  if (!token.finite) return token;
  if (asked.top_logprobs > 0)
    token.alternatives = sampler_.Likeliest(row.logits, *sampling, asked.top_logprobs);
  token.token = row.IdOf(token.token);
  for (TokenLogprob& other : token.alternatives) other.token = row.IdOf(other.token);
  return token;
}

absl::StatusOr<RuledDraw::Row> TokenDraw::Guide(const RuledDraw::Row& row,
                                                std::span<const float> hidden_D, int32_t remaining,
                                                double temperature) {
  ASSIGN_OR_RETURN(const std::span<const float> weights_V, guide_->Weights(hidden_D, remaining));
  const RuledDraw::Row guided = weighed_.Apply(row, weights_V, temperature);
  metrics_.Guided(weighed_.kept_likeliest());
  return guided;
}

bool TokenDraw::ScorePrompt(const SampleRequest& asked, int32_t start, const LogitRows& logits,
                            int64_t first_row, int32_t rows, PromptLogprobs& scored) {
  const std::vector<int32_t>& tokens = asked.prompt_tokens;
  const auto last = static_cast<int32_t>(tokens.size()) - 1;
  SamplingParams own;  // the model's own distribution
  own.temperature = 0;
  for (int32_t i = 0; i < rows && start + i < last; ++i) {
    // What was computed before a preemption is computed again, and is here already.
    if (start + i < static_cast<int32_t>(scored.logprobs.size())) continue;
    const std::span<const float> row = logits[first_row + i];
    scored.logprobs.push_back(sampler_.Logprob(row, tokens[start + i + 1]));
    scored.alternatives.push_back(asked.top_logprobs > 0
                                      ? sampler_.Likeliest(row, own, asked.top_logprobs)
                                      : std::vector<TokenLogprob>());
  }
  return static_cast<int32_t>(scored.logprobs.size()) >= last;
}

}  // namespace tramontane
