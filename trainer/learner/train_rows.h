// Groups and SFT examples as the rows of a step. Torch-free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "data/dataset.h"

namespace tramontane {

// One sequence to learn from. Spans point into the groups or examples, which must outlive it.
struct TrainRow {
  std::span<const int32_t> prompt;    // at least one token
  std::span<const int32_t> response;  // may be empty: such a row is in statistics only
  std::span<const float> behaviour;   // the generator's log-probabilities; empty for SFT
  std::span<const VersionSpan> versions;
  std::span<const uint8_t> routes;      // Rollout::routes: through which experts its inputs went
  // Response tokens that the policy did not sample, or sampled too long ago: mask 0.
  std::span<const TokenSpan> injected;
  int64_t group = 0;
  double reward = 0;
  bool correct = false;
  bool truncated = false;  // ended by length
  bool masked = false;     // gibberish or repetition, where the filter masks it: advantage 0
  double temperature = 1;  // that its tokens were sampled at
  // Its first so many inputs are those of all its group's rows, and are computed once in a
  // microbatch (trainer/learner/shared_inputs.h).
  int64_t shared_tokens = 0;

  // Of prompt and response as one.
  int32_t TokenAt(int64_t t) const {
    const auto first = static_cast<int64_t>(prompt.size());
    return t < first ? prompt[static_cast<size_t>(t)] : response[static_cast<size_t>(t - first)];
  }
  // Tokens fed to the model: the last response token predicts nothing.
  int64_t input_tokens() const {
    return response.empty() ? 0 : static_cast<int64_t>(prompt.size() + response.size()) - 1;
  }
  // Response tokens that are learnt from (mask 1): every length and denominator counts these.
  int64_t sampled_tokens() const;
};

// May be moved; a copy's rows would point into the original.
struct CollectedRows {
  std::vector<TrainRow> rows;
  std::vector<std::vector<TokenSpan>> spans;  // TrainRow::injected of rows with old tokens
  int64_t old_tokens = 0;                     // that filter.segment_max_age_versions left out
  int64_t without_score = 0;       // infrastructure failures and timeouts: no reward exists
  int64_t nonfinite_logprobs = 0;  // left out: a ratio against them means nothing
};

// The valid members of complete groups: scored, or failed by the policy's own fault.
// `filter` says what is masked and, with `version`, the newest one, what is too old.
// InvalidArgument when a rollout's tokens, log-probabilities and versions disagree in length.
absl::StatusOr<CollectedRows> CollectRows(const std::vector<Group>& groups,
                                          const FilterConfig& filter = {}, int64_t version = 0);

// What a model can be fed.
struct RowLimits {
  int64_t vocab_size = 0;
  // With router replay: bytes of routes that each input token must have, experts_per_token for each
  // layer of so many experts. 0: routes are not looked at.
  int64_t route_size = 0, experts_per_token = 1, experts = 0;
};
// Whether CollectRows takes the group, and a model with these limits its valid members.
// InvalidArgument names the sample.
absl::Status CheckGroup(const Group& group, const RowLimits& limits);
absl::StatusOr<CollectedRows> CollectRows(const std::vector<SftExample>& examples);
// Two rows a pair, the chosen one first; one group.
absl::StatusOr<CollectedRows> CollectRows(const std::vector<PreferencePair>& pairs);

}  // namespace tramontane
