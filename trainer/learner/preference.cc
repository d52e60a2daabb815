#include "trainer/learner/preference.h"

#include <algorithm>
#include <cmath>

namespace tramontane {
namespace {

// −log σ(x) without overflow.
double Softplus(double minus_x) {
  return std::max(minus_x, 0.0) + std::log1p(std::exp(-std::abs(minus_x)));
}

double Sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

}  // namespace

PreferenceLoss ComputePreferenceLoss(const std::vector<double>& policy,
                                     const std::vector<double>& reference,
                                     const std::vector<int64_t>& tokens, const DpoSection& dpo) {
  PreferenceLoss out;
  const auto pairs = static_cast<double>(tokens.size() / 2);
  size_t t = 0;
  double accuracy = 0, margin = 0, chosen = 0, rejected = 0;
  for (size_t i = 0; i + 1 < tokens.size(); i += 2) {
    double log_ratio[2] = {0, 0};
    for (size_t side = 0; side < 2; ++side) {
      for (int64_t n = 0; n < tokens[i + side]; ++n, ++t) log_ratio[side] += policy[t] - reference[t];
      const double share =
          dpo.length_normalised ? 1 / static_cast<double>(tokens[i + side]) : 1.0;
      log_ratio[side] *= share;
      out.token_weight.push_back(share / pairs);
    }
    const double z = dpo.beta * (log_ratio[0] - log_ratio[1]), smoothing = dpo.label_smoothing;
    out.loss += ((1 - smoothing) * Softplus(-z) + smoothing * Softplus(z)) / pairs;
    const double pull = dpo.beta * ((1 - smoothing) * Sigmoid(-z) - smoothing * Sigmoid(z));
    out.advantage.push_back(pull);
    out.advantage.push_back(-pull);
    accuracy += z > 0;
    margin += z;
    chosen += log_ratio[0];
    rejected += log_ratio[1];
  }
  out.metrics = {{"dpo_accuracy", accuracy / pairs},
                 {"dpo_margin", margin / pairs},
                 {"dpo_chosen_logratio", chosen / pairs},
                 {"dpo_rejected_logratio", rejected / pairs}};
  return out;
}

}  // namespace tramontane
