#include "generator/usage.h"

#include <string_view>

namespace tramontane {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

bool EndsInsideThinking(const std::string& text) {
  const size_t open = text.rfind(kOpen);
  if (open == std::string::npos) return false;
  return text.find(kClose, open) == std::string::npos;
}

}  // namespace

TokenUsage CountUsage(const std::string& prompt_text, const std::vector<int32_t>& response,
                      const std::shared_ptr<const Tokenizer>& tokenizer) {
  IncrementalDecoder decoder(tokenizer);
  std::string text;
  std::vector<size_t> begins, ends;  // of each token's text
  for (int32_t token : response) {
    begins.push_back(text.size());
    text += decoder.Push(token);
    ends.push_back(text.size());
  }
  text += decoder.Finish();

  TokenUsage usage;
  size_t open_end = 0;
  if (!EndsInsideThinking(prompt_text)) {
    const size_t open = text.find(kOpen);
    open_end = open == std::string::npos ? text.size() + 1 : open + kOpen.size();
  }
  const size_t close = open_end <= text.size() ? text.find(kClose, open_end) : std::string::npos;
  for (size_t i = 0; i < response.size(); ++i) {
    const bool inside = begins[i] >= open_end && (close == std::string::npos || ends[i] <= close);
    ++(inside ? usage.thinking : usage.answer);
  }
  return usage;
}

}  // namespace tramontane
