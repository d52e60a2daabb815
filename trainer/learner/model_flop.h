// Model FLOP share (often called MFU): the floating-point operations that a step's model asks for,
// over what the machine could have done in the same time.
//
// Of a sequence of T input and R response tokens whose first H inputs another one holds (its
// group's prompt), with hidden width D, L layers, q and kv widths Q and K, MLP width F and
// vocabulary V:
//
//   forward   2 · [ (T−H)·L·D·(2Q + 2K + 3F) + R·D·V + L·2·Q·(T(T+1) − H(H+1))/2 ]
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

struct SequencePass {
  int64_t inputs = 0, held = 0, responses = 0;  // tokens: T, H, R
};

// Operations of one training step on these sequences.
double TrainingFlop(const ModelConfig& model, const std::vector<SequencePass>& passes);

// Operations a second that the pool's threads reach together when they only multiply float32
// matrices of side × side; best of some passes. Throws what tensor code throws.
double MultiplyPeakFlops(WorkerPool& workers, int64_t side);

}  // namespace tramontane
