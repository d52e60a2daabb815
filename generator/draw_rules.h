// What a request says about which tokens may be drawn: biases, and a grammar. Torch-free.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "text/grammar.h"

namespace tramontane {

struct DrawRules {
  std::map<int32_t, float> logit_bias = {};     // token → added to its logit
  std::shared_ptr<const Grammar> grammar = {};  // null: free text
  int32_t grammar_after_token = -1;             // the grammar begins behind this token; -1: at once

  bool empty() const { return logit_bias.empty() && grammar == nullptr; }
};

// One sample's rules while it grows. Engine thread; one object per sample.
class RuledDraw {
 public:
  // `stop_tokens` end the sample: they may come wherever the grammar may end.
  RuledDraw(DrawRules rules, std::vector<int32_t> stop_tokens);

  // A row of logits that the rules leave: logits[i] belongs to ids[i], or to i where ids is empty.
  struct Row {
    std::span<const float> logits;
    std::span<const int32_t> ids;

    int32_t IdOf(int32_t i) const { return ids.empty() ? i : ids[static_cast<size_t>(i)]; }
  };
  // Valid until the next call. Internal: the grammar cannot go on with this vocabulary.
  absl::StatusOr<Row> Apply(std::span<const float> logits_V);

  // Tells what the sample holds by now, prefill included, and which of it nobody drew: that is not
  // the grammar's. Before each Apply. True when the grammar allows nothing more.
  absl::StatusOr<bool> Follow(std::span<const int32_t> response,
                              std::span<const TokenSpan> injected = {});
  // The response was cut to `tokens`: whatever the grammar saw behind them never happened.
  void Rewind(int32_t tokens);

 private:
  absl::Status Begin();

  const DrawRules rules_;
  const std::vector<int32_t> stop_tokens_;  // ascending
  std::optional<GrammarState> state_;       // once the grammar has begun
  size_t followed_ = 0;                     // tokens of the response that have been looked at
  std::vector<float> logits_;
  std::vector<int32_t> ids_;
};

}  // namespace tramontane
