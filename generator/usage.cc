#include "generator/usage.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace tramontane {
namespace {

struct TextRange {
  size_t begin = 0, end = 0;
};

std::vector<TextRange> RangesOf(const std::vector<int32_t>& tokens,
                                const std::shared_ptr<const Tokenizer>& tokenizer,
                                std::string& text) {
  IncrementalDecoder decoder(tokenizer);
  std::vector<TextRange> ranges;
  for (int32_t token : tokens) {
    const size_t begin = text.size();
    text += decoder.Push(token);
    ranges.push_back({begin, text.size()});
  }
  text += decoder.Finish();
  return ranges;
}

// Thoughts lie in [begin, end) of the text; empty when there are none.
TextRange Thoughts(const ThinkingPlan& plan, std::string_view text) {
  if (plan.start == ThinkPhase::kAfter) return {};
  size_t begin = 0;
  if (plan.start == ThinkPhase::kBefore) {
    begin = text.find(plan.open);
    if (begin == std::string::npos) return {};
    begin += plan.open.size();
  }
  return {begin, std::min(text.find(plan.close, begin), text.size())};
}

}  // namespace

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
    std::string text;
    const std::vector<TextRange> ranges = RangesOf(rollout.tokens, tokenizer, text);
    const TextRange thoughts = Thoughts(plan, text);
    const size_t sampled = ranges.size() - (ended_by_token ? 1 : 0);
    for (size_t i = 0; i < sampled; ++i)
      usage.thinking +=
          !injected[i] && ranges[i].begin >= thoughts.begin && ranges[i].end <= thoughts.end;
  }
  usage.answer = static_cast<int32_t>(rollout.tokens.size()) - usage.injected - usage.thinking;
  return usage;
}

}  // namespace tramontane
