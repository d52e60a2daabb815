#include "text/thoughts.h"

#include <algorithm>
#include <string_view>

namespace tramontane {
namespace {

struct TextRange {
  size_t begin = 0, end = 0;
};

}  // namespace

ThoughtSpan FindThoughts(std::span<const int32_t> response, bool opened, const ThinkTags& tags,
                         const std::shared_ptr<const Tokenizer>& tokenizer) {
  IncrementalDecoder decoder(tokenizer);
  std::string text;
  std::vector<TextRange> ranges;
  for (const int32_t token : response) {
    const size_t begin = text.size();
    text += decoder.Push(token);
    ranges.push_back({begin, text.size()});
  }
  text += decoder.Finish();
  size_t begin = 0;
  if (!opened) {
    begin = text.find(tags.open);
    if (begin == std::string::npos) return {};
    begin += tags.open.size();
  }
  const size_t close = text.find(tags.close, begin);
  const size_t end = std::min(close, text.size());
  const auto inside = [&](const TextRange& range) {
    return range.begin >= begin && range.end <= end;
  };
  const auto first = std::ranges::find_if(ranges, inside);
  const auto last = std::find_if_not(first, ranges.end(), inside);
  return {static_cast<size_t>(first - ranges.begin()), static_cast<size_t>(last - ranges.begin()),
          close != std::string::npos};
}

absl::StatusOr<std::string> AnswerOpening(const std::vector<int32_t>& prompt,
                                          const std::vector<int32_t>& end_tokens,
                                          const Tokenizer& tokenizer) {
  const auto turn_end =
      std::find_first_of(prompt.rbegin(), prompt.rend(), end_tokens.begin(), end_tokens.end());
  return tokenizer.Decode({turn_end.base(), prompt.end()}, /*skip_special_tokens=*/false);
}

}  // namespace tramontane
