// Which samples of a group become rows to learn from: rejection sampling. A pure function.
//
//   first_correct     the first right answers
//   shortest_correct  the shortest right answers (Kimi k1.5 §2.4, shortest rejection sampling)
//   all_correct       as first_correct, meant with a large max_per_prompt
//   best              the highest rewards, right or not
//   pairs_best_worst  (highest reward, lowest reward), when they differ
//   pairs_short_long  (shortest right answer, each longer wrong answer and each right answer of at
//                     least length_ratio times its length) (Kimi k1.5 §2.4, DPO)
//
// A completion that was cut off or timed out is never taught (nor chosen), only rejected; one without
// text is neither.
#pragma once

#include <string>
#include <vector>

#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

// At most max_per_prompt rows, each {"id", "prompt", "completion", "reward", …} or {"id", "prompt",
// "chosen", "rejected", …} with the token ids beside the texts and `tokenizer` (a SHA-256) saying
// whose they are (data/dataset.h reads them).
std::vector<Json> SelectRows(const Group& group, const RejectSection& reject,
                             const std::string& tokenizer);

}  // namespace tramontane
