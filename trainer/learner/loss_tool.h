// `tramontane loss`: the training loss of a ragged batch of numbers, by the code that trains.
#pragma once

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

// In:  {"algorithm": {…}, "batch": {…}, "dtype": "float32" (default) | "float64"}; shapes in docs/cli.
// Out: {"loss", "advantage": [[…]], "grad_logprob": [[…]], "metrics": {…}}, with a value loss also
// "grad_value": [[…]].
// `batch` may carry, beside the documented keys, `truncated` and `correct` (0 or 1 per sequence) for
// the filters, and `kl_full` (exact KL per token, a constant here) for kl.kind full. Advantages and
// gradients are 0 where masked or dropped. InvalidArgument names the key or the rule.
absl::StatusOr<Json> LossTool(const Json& request);

}  // namespace tramontane
