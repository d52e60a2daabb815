// Thinking control of one sample: a state machine over the text of its tokens that says of every
// drawn token whether it stays, and what is put in instead. Torch-free, no tokenizer; one thread.
//
// The budget counts sampled tokens strictly between the tags, so a token that overlaps a tag is
// never counted, however the tag is split. The cap is exact: a model that closes with its budget
// just used up is left alone; a token that would exceed it is refused, the closing string injected.
// Tokens that may be the beginning of the closing tag are `pending`: a later ruling may drop them.
//
// Budget forcing and "Wait": s1, arXiv 2501.19393 §3.1. Tags: AdaCtrl.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tramontane {

enum class ThinkPhase { kBefore, kInside, kAfter };

// Resolved once per request (generator/core/thinking_plan.h), shared by its samples.
struct ThinkingPlan {
  bool controlled = false;  // false: the request asks for no control
  std::string open = "<think>", close = "</think>";
  ThinkPhase start = ThinkPhase::kBefore;  // after prompt and prefill
  int32_t budget = -1;                     // -1: the model stops itself
  int32_t latest = INT32_MAX;  // response tokens that may stand before `exhaustion` goes in
  int32_t min_tokens = 0;      // 0: every end of thinking is early while extensions are left
  int32_t extensions = 0;
  std::vector<int32_t> prefill, exhaustion, extension;  // injected token ids
  std::map<std::string, int32_t> tag_budgets;  // not empty: the response's first words may be a tag
  bool guided = false;                         // steered towards `budget`, which is above 0
  bool plain_draw = false;  // guided tokens are drawn at temperature 1, nothing cut off
};

// What becomes of a drawn token. When it does not stay, the last `drop` tokens go as well, and
// then `inject` (never null in that case) is put in.
struct ThinkRuling {
  bool keep = true;
  int32_t drop = 0;
  const std::vector<int32_t>* inject = nullptr;
};

class ThinkControl {
 public:
  enum class End { kOpen, kModel, kExhausted };  // how the thinking ended

  explicit ThinkControl(std::shared_ptr<const ThinkingPlan> plan);

  // `piece` is the text that the token adds to the response, which holds `response_tokens` tokens
  // so far, injected ones included. `stops`: the token would end the sample.
  ThinkRuling Offer(std::string_view piece, bool stops, int32_t response_tokens);

  // Of a response that is taken up again: these tokens had been put in here, all of them.
  void Injected(std::span<const int32_t> tokens);

  int32_t pending() const { return static_cast<int32_t>(ends_.size()); }
  int32_t thinking_tokens() const { return thinking_; }  // settled
  bool inside() const { return phase_ == ThinkPhase::kInside; }
  // Nothing has been thought yet.
  bool at_start() const { return inside() && thinking_ + pending() == 0; }
  // Tokens of the budget that are left, where there is one.
  int32_t remaining() const { return budget_ - thinking_ - pending(); }
  End end() const { return end_; }
  int32_t extended() const { return plan_->extensions - extensions_left_; }

 private:
  void WatchTag(std::string_view piece);
  void LookForOpening(std::string_view piece);
  ThinkRuling Stop(int32_t response_tokens);
  ThinkRuling Inside(std::string_view piece, int32_t response_tokens);
  ThinkRuling Exhaust(int32_t response_tokens);
  ThinkRuling Extend(int32_t drop);
  bool MayExtend(int32_t thinking, int32_t response_tokens) const;
  bool OverBudget(int32_t thinking) const { return budget_ >= 0 && thinking > budget_; }

  const std::shared_ptr<const ThinkingPlan> plan_;
  ThinkPhase phase_;
  End end_ = End::kOpen;
  int32_t budget_;
  int32_t extensions_left_;
  int32_t thinking_ = 0;
  bool tag_open_;             // the response may still begin with a tag
  std::string first_words_;   // while tag_open_
  std::string tail_;          // text that may become part of the tag looked for
  std::vector<size_t> ends_;  // of pending tokens, in tail_
};

}  // namespace tramontane
