// One packed microbatch: rows to tensors, forward, loss, gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "trainer/learner/mismatch.h"
#include "trainer/learner/optimiser.h"
#include "trainer/learner/packed_rows.h"
#include "trainer/learner/policy_loss.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/vocab_kl.h"

namespace tramontane {

class Transformer;

// The whole step's rows with their shares of the loss, one entry per row. Read by all workers.
struct StepRows {
  std::span<const TrainRow> rows;
  std::vector<double> advantage;
  SampledValues token_advantage;        // takes its place with baseline value; else empty
  std::vector<double> token_weight;     // trainer/learner/aggregation.h
  std::vector<double> positive_weight;  // empty unless auxiliary.positive_nll is used
  // log π before the first update of the step, where the step takes several and its anchor is
  // recomputed; empty: the policy before the update is what each forward pass computes.
  SampledValues proximal;
  bool replay_routes = false;  // the policy's experts are those of the rows' routes
};

struct StepMath {
  AlgorithmConfig algorithm;         // entropy.coefficient as it applies in this step
  Transformer* reference = nullptr;  // read only; where algorithm.kl compares with a copy
  // Weight version that the parameters are at: log-probabilities stamped with it are compared.
  int64_t version = 0;
  double mtp_weight = 0;  // of the multi-token-prediction head's loss
  // Of kl.kind full: KL(π ‖ reference), or forward of the reference's k likeliest tokens (0: all).
  KlDirection direction = KlDirection::kReverse;
  int64_t reference_top_k = 0;
};

// |generator − trainer| log-probability over tokens.
struct GapSums {
  double sum = 0, max = 0;
  int64_t tokens = 0;

  void Add(double gap);
  void Add(const GapSums& other);
};

// (token, layer) pairs that went through the experts of their route, and those of them where the
// router would have chosen others.
struct RouteSums {
  int64_t replayed = 0, differing = 0;
};

struct MicrobatchOutput {
  double loss = 0;      // this microbatch's share of the step's loss
  double mtp_loss = 0;  // … and of the head's part in it, not weighted
  LossSums sums;
  GapSums gap;           // rollouts sampled by `version` from first to last token
  GapSums gap_stale_kv;  // tokens of `version` that came after older ones (their KV cache was kept)
  RouteSums routes;
  MismatchSums mismatch;  // all sampled tokens, whatever their version
  double forward_seconds = 0, backward_seconds = 0;

  void Add(const MicrobatchOutput& other);
};

// Computes rows `members` of `step` and calls `backward` with their loss. Several threads may do so
// at once. Tensor errors come back as Status.
absl::Status ComputeMicrobatch(Transformer& model, const StepRows& step,
                               const std::vector<int32_t>& members, const StepMath& math,
                               const Backward& backward, MicrobatchOutput& output);

// k(anchor, π_ref) of the members' sampled tokens, for kl.where reward. No gradient; thread-safe
// for distinct members.
absl::Status ComputeTokenKl(Transformer& model, const StepRows& step,
                            const std::vector<int32_t>& members, const StepMath& math,
                            SampledValues& kl);

// log π of the members' sampled tokens. No gradient; thread-safe for distinct members.
absl::Status ComputeLogprobs(Transformer& model, const StepRows& step,
                             const std::vector<int32_t>& members, SampledValues& logprobs);

}  // namespace tramontane
