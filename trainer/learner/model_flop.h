// Model FLOP share (often called MFU): the floating-point operations that a step's model asks for,
// over what the machine could have done in the same time.
//
// Of a sequence of T input and R response tokens, with hidden width D, L layers, q and kv widths
// Q and K, MLP width F and vocabulary V:
//
//   forward   2 · [ T·L·D·(2Q + 2K + 3F) + R·D·V + L·2·Q·T(T+1)/2 ]
//   training  3 · forward: the backward pass multiplies twice as much
//
// Counted are the products of the model's matrices and of causal attention (scores and values, a
// position with itself and all before it). What is computed anew or besides (recomputed
// activations, reference, critic, norms, the optimiser) does not count.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"
#include "trainer/learner/worker_pool.h"

namespace tramontane {

// Operations of one training step on sequences of these numbers of input and response tokens.
double TrainingFlop(const ModelConfig& model, const std::vector<int64_t>& input_tokens,
                    const std::vector<int64_t>& response_tokens);

// Operations a second that the pool's threads reach together when they only multiply float32
// matrices of side × side; best of some passes. Throws what tensor code throws.
double MultiplyPeakFlops(WorkerPool& workers, int64_t side);

}  // namespace tramontane
