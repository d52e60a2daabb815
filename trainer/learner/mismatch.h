// How far the policy that is trained lies from the one that sampled, over the tokens of a step: the
// generator's log-probabilities against the trainer's at the weights before the update. Numeric
// differences of the two programs and staleness together. A value; no tensors.
//
// With w = exp(trainer − generator), over N tokens that the generator drew:
//   KL(generator ‖ trainer), estimated as Σ(w − 1 − ln w) / N (never negative, nats per token)
//   effective sample size, as a share of N: (Σw)² / (N·Σw²)
//   χ²(trainer ‖ generator): Σw² / N − 1
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tramontane {

class MismatchSums {
 public:
  void Add(double trainer_logprob, double generator_logprob) {
    // e^20 is far beyond any ratio that means something, and its square is finite.
    const double log_ratio = std::clamp(trainer_logprob - generator_logprob, -kMost, kMost);
    const double ratio = std::exp(log_ratio);
    ++tokens_;
    ratio_ += ratio;
    squares_ += ratio * ratio;
    kl_ += ratio - 1 - log_ratio;
  }

  void Add(const MismatchSums& other) {
    tokens_ += other.tokens_;
    ratio_ += other.ratio_;
    squares_ += other.squares_;
    kl_ += other.kl_;
  }

  int64_t tokens() const { return tokens_; }
  // 0, 1 and 0 without tokens.
  double kl() const { return tokens_ ? kl_ / Tokens() : 0; }
  double effective_sample_ratio() const {
    return squares_ > 0 ? ratio_ * ratio_ / (Tokens() * squares_) : 1;
  }
  double chi_squared() const { return tokens_ ? squares_ / Tokens() - 1 : 0; }

 private:
  static constexpr double kMost = 20;

  double Tokens() const { return static_cast<double>(tokens_); }

  int64_t tokens_ = 0;
  double ratio_ = 0, squares_ = 0, kl_ = 0;
};

}  // namespace tramontane
