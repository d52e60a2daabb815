#include "trainer/learner/model_flop.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "common/clock.h"

namespace tramontane {

double TrainingFlop(const ModelConfig& model, const std::vector<SequencePass>& passes) {
  const auto layers = static_cast<double>(model.attention_layers()),
             matrices = static_cast<double>(model.matrix_weights()),
             head = static_cast<double>(model.hidden_size * model.vocab_size);
  double multiplications = 0;
  for (const SequencePass& pass : passes) {
    const auto length = static_cast<double>(pass.inputs), held = static_cast<double>(pass.held);
    multiplications += (length - held) * matrices + static_cast<double>(pass.responses) * head;
    multiplications += layers * 2 * static_cast<double>(model.q_size()) *
                       (length * (length + 1) - held * (held + 1)) / 2;
  }
  return 3 * 2 * multiplications;
}

double MultiplyPeakFlops(WorkerPool& workers, int64_t side) {
  constexpr int kPasses = 6;
  const at::NoGradGuard no_grad;
  const at::Tensor a = at::ones({side, side}), b = at::ones({side, side});
  std::vector<at::Tensor> products(static_cast<size_t>(workers.size()));
  for (at::Tensor& product : products) product = at::empty({side, side});
  const auto s = static_cast<double>(side);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    workers.Run([&](int worker) { at::mm_out(products[static_cast<size_t>(worker)], a, b); });
    best = std::max(best, workers.size() * 2.0 * s * s * s / SecondsSince(start));
  }
  return best;
}

}  // namespace tramontane
