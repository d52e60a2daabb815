#include "generator/draw_rules.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

std::vector<int32_t> Ascending(std::vector<int32_t> tokens) {
  std::ranges::sort(tokens);
  return tokens;
}

}  // namespace

RuledDraw::RuledDraw(DrawRules rules, std::vector<int32_t> stop_tokens)
    : rules_(std::move(rules)), stop_tokens_(Ascending(std::move(stop_tokens))) {}

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
  auto stop = stop_tokens_.begin();
  for (int32_t id = 0; id < static_cast<int32_t>(logits_V.size()); ++id) {
    while (stop != stop_tokens_.end() && *stop < id) ++stop;
    const bool stops = stop != stop_tokens_.end() && *stop == id;
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

absl::StatusOr<bool> RuledDraw::Follow(std::span<const int32_t> response,
                                       std::span<const TokenSpan> injected) {
  if (rules_.grammar == nullptr) return false;
  if (!state_.has_value()) {
    const auto begin = response.begin() + static_cast<ptrdiff_t>(followed_);
    const auto after = rules_.grammar_after_token < 0
                           ? begin
                           : std::find(begin, response.end(), rules_.grammar_after_token);
    if (rules_.grammar_after_token >= 0) {
      followed_ = static_cast<size_t>(after - response.begin());
      if (after == response.end()) return false;
      ++followed_;
    }
    RETURN_IF_ERROR(Begin());
  }
  bool complete = false;
  for (; followed_ < response.size(); ++followed_) {
    const auto at = static_cast<int32_t>(followed_);
    const bool drawn = std::ranges::none_of(injected, [at](const TokenSpan& span) {
      return at >= span.begin && at < span.begin + span.count;
    });
    if (drawn) {
      ASSIGN_OR_RETURN(complete, state_->Accept(response[followed_]));
    }
  }
  return complete;
}

void RuledDraw::Rewind(int32_t tokens) {
  if (followed_ <= static_cast<size_t>(tokens)) return;
  state_.reset();  // grammars only go forward: what is left is followed anew
  followed_ = 0;
}

}  // namespace tramontane
