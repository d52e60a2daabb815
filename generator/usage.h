// What a response's tokens were spent on. Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace tramontane {

struct TokenUsage {
  int32_t thinking = 0;  // sampled strictly between the first think tags
  int32_t answer = 0;    // all other sampled tokens, the tags' own and the end token included
  int32_t injected = 0;  // put in by thinking control
};

// A prompt that ends inside an open tag begins the thinking. An unclosed tag reaches to the end.
TokenUsage CountUsage(const std::string& prompt_text, const std::vector<int32_t>& response,
                      const std::shared_ptr<const Tokenizer>& tokenizer);

}  // namespace tramontane
