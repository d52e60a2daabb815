// Direct preference optimisation (arXiv 2305.18290 eq. 7; TRL: loss_type sigmoid, length-normalised
// sigmoid_norm; label smoothing: Mitchell, conservative DPO): pure numbers, torch-free.
//
//   z = β·[(s(π, chosen) − s(ref, chosen)) − (s(π, rejected) − s(ref, rejected))]
//   loss = −(1−ε)·log σ(z) − ε·log σ(−z), mean over pairs
//
// s is the sum of a completion's log-probabilities, or their mean (length_normalised).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/config.h"

namespace tramontane {

struct PreferenceLoss {
  double loss = 0;
  // ∂loss/∂log π of a token of row i is −advantage[i]·token_weight[i].
  std::vector<double> advantage, token_weight;
  // dpo_accuracy (share of pairs with z > 0), dpo_margin (mean z), dpo_chosen_logratio,
  // dpo_rejected_logratio (means of s(π) − s(ref)).
  std::map<std::string, double> metrics;
};

// Rows 2i and 2i + 1 are pair i's chosen and rejected completion, of `tokens` each (above 0);
// `policy` and `reference` hold their tokens' log-probabilities back to back.
PreferenceLoss ComputePreferenceLoss(const std::vector<double>& policy,
                                     const std::vector<double>& reference,
                                     const std::vector<int64_t>& tokens, const DpoSection& dpo);

}  // namespace tramontane
