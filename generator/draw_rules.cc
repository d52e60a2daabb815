#include "generator/draw_rules.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace tramontane {

RuledDraw::RuledDraw(DrawRules rules, std::vector<int32_t> stop_tokens)
    : rules_(std::move(rules)), stop_tokens_(std::move(stop_tokens)) {}

absl::Status RuledDraw::Begin() {
  if (state_.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(GrammarState state, rules_.grammar->Start());
  state_.emplace(std::move(state));
  return absl::OkStatus();
}

absl::StatusOr<RuledDraw::Row> RuledDraw::Apply(std::span<const float> logits_V) {
  logits_.assign(logits_V.begin(), logits_V.end());
  for (const auto& [token, bias] : rules_.logit_bias) {
    if (static_cast<size_t>(token) < logits_.size()) logits_[static_cast<size_t>(token)] += bias;
  }
  if (rules_.grammar != nullptr && rules_.grammar_after_token < 0) RETURN_IF_ERROR(Begin());
  if (!state_.has_value()) return Row{logits_, {}};
  RETURN_IF_ERROR(state_->Advance());
  const bool may_end = state_->MayEnd();
  ids_.clear();
  for (int32_t id = 0; id < static_cast<int32_t>(logits_V.size()); ++id) {
    const bool stops = std::ranges::find(stop_tokens_, id) != stop_tokens_.end();
    if (stops ? may_end : state_->Allows(id)) {
      logits_[ids_.size()] = logits_[static_cast<size_t>(id)];  // never ahead of what is read
      ids_.push_back(id);
    }
  }
  if (ids_.empty()) {
    return absl::InternalError("no token of the vocabulary goes on with the grammar");
  }
  return Row{{logits_.data(), ids_.size()}, ids_};
}

absl::StatusOr<bool> RuledDraw::Follow(std::span<const int32_t> response) {
  if (rules_.grammar == nullptr) return false;
  if (!state_.has_value()) {
    // What was put behind the token together with it is not the grammar's.
    const auto after = std::ranges::find(response, rules_.grammar_after_token);
    if (after == response.end()) return false;
    followed_ = response.size();
    RETURN_IF_ERROR(Begin());
    return false;
  }
  bool complete = false;
  for (; followed_ < response.size(); ++followed_) {
    ASSIGN_OR_RETURN(complete, state_->Accept(response[followed_]));
  }
  return complete;
}

}  // namespace tramontane
