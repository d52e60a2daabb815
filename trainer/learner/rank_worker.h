// A rank other than 0: it holds a learner of its own and does what rank 0 says, step by step.
#pragma once

#include "absl/status/status.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

// Until rank 0 ends in order (OK). Unavailable: rank 0 or another rank is gone, or has given up.
// Anything else: this rank has, and has told the others.
absl::Status ServeRank(RankGroup& ranks);

}  // namespace tramontane
