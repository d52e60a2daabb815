#include "generator/core/think_control.h"

#include <algorithm>

namespace tramontane {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

// Length of the longest proper prefix of `tag` that `text` ends with.
size_t HeldPrefix(std::string_view text, std::string_view tag) {
  for (size_t held = std::min(text.size(), tag.size() - 1); held > 0; --held) {
    if (text.substr(text.size() - held) == tag.substr(0, held)) return held;
  }
  return 0;
}

}  // namespace

ThinkControl::ThinkControl(std::shared_ptr<const ThinkingPlan> plan)
    : plan_(std::move(plan)),
      phase_(plan_->start),
      budget_(plan_->budget),
      extensions_left_(plan_->extensions),
      tag_open_(!plan_->tag_budgets.empty()) {}

ThinkRuling ThinkControl::Offer(std::string_view piece, bool stops, int32_t response_tokens) {
  if (tag_open_) WatchTag(piece);
  if (phase_ == ThinkPhase::kAfter) return {};
  if (phase_ == ThinkPhase::kBefore) {
    LookForOpening(piece);
    return {};
  }
  return stops ? Stop(response_tokens) : Inside(piece, response_tokens);
}

// What was dropped at the time is not there any more: all that was pending was thought.
void ThinkControl::Injected(std::span<const int32_t> tokens) {
  const auto is = [tokens](const std::vector<int32_t>& text) {
    return std::ranges::equal(tokens, text);
  };
  if (phase_ != ThinkPhase::kInside) return;  // the prefill
  thinking_ += pending();
  ends_.clear();
  tag_open_ = false;
  if (is(plan_->exhaustion)) {
    phase_ = ThinkPhase::kAfter;
    end_ = End::kExhausted;
  } else if (is(plan_->extension)) {
    --extensions_left_;
    tail_.clear();
  }
}

// An end token while thinking is an early end like any other; what was pending is thought now.
ThinkRuling ThinkControl::Stop(int32_t response_tokens) {
  const int32_t thinking = thinking_ + pending();
  if (OverBudget(thinking)) return Exhaust(response_tokens);
  thinking_ = thinking;
  if (MayExtend(thinking, response_tokens)) return Extend(0);
  ends_.clear();
  return {};
}

// The first words decide the budget; anything but a tag leaves the default.
void ThinkControl::WatchTag(std::string_view piece) {
  first_words_ += piece;
  const size_t begin = first_words_.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return;
  const std::string_view words = std::string_view(first_words_).substr(begin);
  bool possible = false;
  for (const auto& [tag, budget] : plan_->tag_budgets) {
    if (words.starts_with(tag)) {
      budget_ = budget;
      tag_open_ = false;
      return;
    }
    possible |= std::string_view(tag).starts_with(words);
  }
  tag_open_ = possible;
}

void ThinkControl::LookForOpening(std::string_view piece) {
  tail_ += piece;
  const size_t at = tail_.find(plan_->open);
  if (at == std::string::npos) {
    tail_.erase(0, tail_.size() - HeldPrefix(tail_, plan_->open));
    return;
  }
  phase_ = ThinkPhase::kInside;
  tail_.erase(0, at + plan_->open.size());
  // Text behind the tag in the same token belongs to no token that counts.
  if (tail_.find(plan_->close) != std::string::npos) {
    phase_ = ThinkPhase::kAfter;
    end_ = End::kModel;
  }
  tail_.erase(0, tail_.size() - HeldPrefix(tail_, plan_->close));
}

ThinkRuling ThinkControl::Inside(std::string_view piece, int32_t response_tokens) {
  const std::string text = tail_ + std::string(piece);
  const size_t at = text.find(plan_->close);
  const bool closes = at != std::string::npos;
  const size_t certain = closes ? at : text.size() - HeldPrefix(text, plan_->close);
  // Tokens that end before `certain` are thoughts; the others are, or may be, of the tag.
  const auto settled = static_cast<int32_t>(
      std::ranges::count_if(ends_, [certain](size_t end) { return end <= certain; }) +
      (text.size() <= certain ? 1 : 0));
  const int32_t thinking = thinking_ + settled;
  const int32_t loose = pending() + 1 - settled;
  if (OverBudget(thinking) || response_tokens + 1 - loose > plan_->latest)
    return Exhaust(response_tokens);
  if (closes && MayExtend(thinking, response_tokens + 1 - loose)) {
    thinking_ = thinking;
    return Extend(loose - 1);
  }
  thinking_ = thinking;
  if (closes) {
    phase_ = ThinkPhase::kAfter;
    end_ = End::kModel;
    ends_.clear();
    return {};
  }
  ends_.push_back(text.size());
  std::erase_if(ends_, [certain](size_t end) { return end <= certain; });
  for (size_t& end : ends_) end -= certain;
  tail_ = text.substr(certain);
  return {};
}

// Pending tokens stay as thoughts as far as the budget reaches.
ThinkRuling ThinkControl::Exhaust(int32_t response_tokens) {
  int32_t room = plan_->latest - (response_tokens - pending());
  if (budget_ >= 0) room = std::min(room, budget_ - thinking_);
  const int32_t kept = std::clamp(room, 0, pending());
  const int32_t drop = pending() - kept;
  thinking_ += kept;
  ends_.clear();
  tag_open_ = false;
  phase_ = ThinkPhase::kAfter;
  end_ = End::kExhausted;
  return {false, drop, &plan_->exhaustion};
}

ThinkRuling ThinkControl::Extend(int32_t drop) {
  --extensions_left_;
  ends_.clear();
  tag_open_ = false;
  tail_.clear();
  return {false, drop, &plan_->extension};
}

// `response_tokens`: those that stay.
bool ThinkControl::MayExtend(int32_t thinking, int32_t response_tokens) const {
  return extensions_left_ > 0 && (budget_ < 0 || thinking < budget_) &&
         (plan_->min_tokens == 0 || thinking < plan_->min_tokens) &&
         response_tokens + static_cast<int64_t>(plan_->extension.size()) < plan_->latest;
}

}  // namespace tramontane
