// The policy as the configuration wants it trained: whole, by adapters, or computed in bfloat16.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "trainer/learner/lora.h"
#include "trainer/learner/trained_weights.h"

namespace tramontane {

class Transformer;

struct PolicyWeights {
  std::shared_ptr<Transformer> compute;  // what forward passes run; often the model itself
  std::unique_ptr<TrainedWeights> trained = {};
  LoraWeights* lora = nullptr;  // `trained`, where it is that
};

// `model` holds the float32 (in tests, float64) weights that are saved and published.
// InvalidArgument: lora names what the model has not. FailedPrecondition: trainer.dtype bfloat16 on
// a processor without such arithmetic.
absl::StatusOr<PolicyWeights> MakePolicyWeights(const RunConfig& config,
                                                const std::shared_ptr<Transformer>& model);

// The model's tensors with their names as the optimiser has them.
NamedParameters NamesOf(const Transformer& model);

}  // namespace tramontane
