// Through which experts the tokens of one forward pass go: what is asked for, and what came of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tramontane {

struct Routing {
  // uint8 [tokens, expert layers, experts per token]: a token's experts, or kNoRoute for all of
  // them where the router is to choose. Undefined: routers choose everywhere.
  at::Tensor asked_TLK;
  // Filled by Forward: through which they went. uint8, like `asked`, on the CPU.
  at::Tensor taken_TLK;
  // (token, layer) pairs whose experts were asked for, and those of them where the router would
  // have chosen others.
  int64_t replayed = 0, differing = 0;
};

}  // namespace tramontane
