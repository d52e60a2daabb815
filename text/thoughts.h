// Where a response thinks: the tokens strictly between its first think tags.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/tokenizer.h"

namespace tramontane {

struct ThinkTags {
  std::string open, close;
};

// Tokens [begin, end): those whose text lies between the tags, none of it in one.
struct ThoughtSpan {
  size_t begin = 0, end = 0;
  bool closed = false;  // the closing tag follows

  size_t size() const { return end - begin; }
};

// `opened`: the prompt has left the thinking open. An unclosed tag reaches to the end; nothing is
// found where nothing opens.
ThoughtSpan FindThoughts(std::span<const int32_t> response, bool opened, const ThinkTags& tags,
                         const std::shared_ptr<const Tokenizer>& tokenizer);

// The text of a prompt behind its last end token: what belongs to the answer already. A prompt
// without one is all of one piece.
absl::StatusOr<std::string> AnswerOpening(const std::vector<int32_t>& prompt,
                                          const std::vector<int32_t>& end_tokens,
                                          const Tokenizer& tokenizer);

}  // namespace tramontane
