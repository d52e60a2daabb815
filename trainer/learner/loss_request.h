// What `tramontane loss` is asked: an algorithm block and a ragged batch of numbers, checked and
// laid out as tensors. Shapes in docs/cli.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/policy_loss.h"

namespace tramontane {

struct LossRequest {
  AlgorithmConfig algorithm;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> lengths;  // tokens of each sequence, masked ones included
  std::vector<double> mask;      // per token, sequences back to back; 1 = sampled
  AdvantageInput input;          // all but what the reward's KL adds
  TokenBatch batch;              // all that is given; logprob_T (and value_T) want a gradient

  size_t sequences() const { return lengths.size(); }
};

// InvalidArgument names the key or the rule.
absl::StatusOr<LossRequest> ReadLossRequest(const Json& request);

at::Tensor ToTensor(const std::vector<double>& values, at::ScalarType dtype);  // [values]
std::vector<double> ToVector(const at::Tensor& values);

}  // namespace tramontane
