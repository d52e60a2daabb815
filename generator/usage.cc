#include "generator/usage.h"

#include <algorithm>

#include "text/thoughts.h"

namespace tramontane {
TokenUsage CountUsage(const ThinkingPlan& plan, const Rollout& rollout, bool ended_by_token,
                      const std::shared_ptr<const Tokenizer>& tokenizer) {
  std::vector<uint8_t> injected(rollout.tokens.size(), 0);
  for (const TokenSpan& span : rollout.injected)
    std::fill_n(injected.begin() + span.begin, span.count, 1);
  TokenUsage usage;
  usage.injected = static_cast<int32_t>(CountTokens(rollout.injected));
  const bool may_think =
      tokenizer != nullptr &&
      (plan.start == ThinkPhase::kInside ||
       (plan.start == ThinkPhase::kBefore && rollout.text.find(plan.open) != std::string::npos));
  if (may_think) {
    const ThoughtSpan thoughts = FindThoughts(rollout.tokens, plan.start == ThinkPhase::kInside,
                                              {plan.open, plan.close}, tokenizer);
    const size_t sampled = rollout.tokens.size() - (ended_by_token ? 1 : 0);
    for (size_t i = thoughts.begin; i < std::min(thoughts.end, sampled); ++i)
      usage.thinking += !injected[i];
  }
  usage.answer = static_cast<int32_t>(rollout.tokens.size()) - usage.injected - usage.thinking;
  return usage;
}

}  // namespace tramontane
