// Packing sequences into microbatches, and microbatches onto workers. Integers only, deterministic.
#pragma once

#include <cstdint>
#include <vector>

namespace tramontane {

struct PackPlan {
  // Each microbatch lists indices into `lengths`, longest first (within its group, where one
  // shares).
  std::vector<std::vector<int32_t>> microbatches;
  // worker → microbatches it computes, in that order.
  std::vector<std::vector<int32_t>> workers;
  int64_t tokens = 0;  // of all microbatches
};

// Greedy by length, longest first (ties by index), each into the emptiest microbatch with room.
// The number of microbatches is the least that capacity allows, rounded up to a multiple of
// `workers` while there are sequences enough, so that all workers end together; more are opened
// only if the greedy choice runs out of room. A sequence longer than the capacity gets a
// microbatch of its own. Sequences of length 0 are left out.
PackPlan PackSequences(const std::vector<int64_t>& lengths, int64_t capacity_tokens, int workers);

struct SharedLength {
  int64_t tokens = 0;  // 0: left out
  int64_t group = 0;
  int64_t shared = 0;  // of `tokens`, that a microbatch holds once for all its members of `group`
};

// The same where members of a group share tokens. Groups come in the order of their first members
// and are cut into pieces, the heaviest as light as their number allows, so that each cut computes
// shared tokens twice and there are few of them. Members of a group stand side by side.
PackPlan PackSharing(const std::vector<SharedLength>& lengths, int64_t capacity_tokens,
                     int workers);

}  // namespace tramontane
