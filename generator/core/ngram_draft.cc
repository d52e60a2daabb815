#include "generator/core/ngram_draft.h"

#include <algorithm>

namespace tramontane {
namespace {

constexpr size_t kShortestMatch = 2, kLongestMatch = 4;

// How many tokens up to `end` (exclusive) equal the last ones of all.
size_t MatchBefore(std::span<const int32_t> tokens, size_t end) {
  size_t length = 0;
  while (length < std::min(end, kLongestMatch) &&
         tokens[end - 1 - length] == tokens[tokens.size() - 1 - length])
    ++length;
  return length;
}

}  // namespace

void DraftByNgram(std::span<const int32_t> tokens, int32_t most, std::vector<int32_t>& draft) {
  size_t best = 0, longest = kShortestMatch - 1;
  for (size_t end = tokens.size() - std::min<size_t>(tokens.size(), 1);
       end > 0 && longest < kLongestMatch; --end) {
    const size_t length = MatchBefore(tokens, end);
    if (length <= longest) continue;
    longest = length;
    best = end;
  }
  if (best == 0) return;
  const size_t count = std::min(tokens.size() - best, static_cast<size_t>(std::max(most, 0)));
  const auto begin = tokens.begin() + static_cast<ptrdiff_t>(best);
  draft.insert(draft.end(), begin, begin + static_cast<ptrdiff_t>(count));
}

}  // namespace tramontane
