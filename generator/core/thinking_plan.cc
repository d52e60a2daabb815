#include "generator/core/thinking_plan.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "common/status.h"

namespace tramontane {
namespace {

constexpr int32_t kMostReserve = 512;  // CWM's reserve for the answer
constexpr int32_t kDynamic = -1;

absl::Status Bad(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError("thinking." + field + ": " + why);
}

struct Budget {
  std::string field;  // that decided it, for messages
  int32_t tokens = kDynamic;
};

std::map<std::string, int32_t> TagBudgets(const ThinkingProfile& profile, int32_t most) {
  if (!profile.tags.empty()) return profile.tags;
  return {{"[Easy]", std::max(most / 4, 1)}, {"[Hard]", std::max(most, 1)}};
}

double EffortFraction(const std::string& effort) {
  return effort == "low" ? 0.25 : effort == "medium" ? 0.5 : 1.0;
}

absl::StatusOr<Budget> DecideBudget(const ThinkingParams& thinking, const ThinkingProfile& profile,
                                    const std::string& prompt_text, int32_t most) {
  const int32_t otherwise = profile.default_budget.value_or(kDynamic);
  if (thinking.budget) return Budget{"budget", *thinking.budget};
  if (!thinking.effort.empty()) {  // rounded up: a little effort is not none
    const double share = EffortFraction(thinking.effort) * most;
    return Budget{"effort", static_cast<int32_t>(std::ceil(share))};
  }
  if (thinking.tag == "dynamic") return Budget{"tag", otherwise};
  if (!thinking.tag.empty()) {
    const auto tags = TagBudgets(profile, most);
    const auto found = tags.find(thinking.tag);
    if (found != tags.end()) return Budget{"tag", found->second};
    std::string names = "dynamic";
    for (const auto& [name, tokens] : tags) names += ", " + name;
    return Bad("tag", "\"" + thinking.tag + "\" is none of " + names);
  }
  if (!thinking.mode.empty()) return Budget{"mode", thinking.mode == "on" ? kDynamic : 0};
  if (const auto flag = LastModeFlag(prompt_text)) return Budget{"mode", *flag ? kDynamic : 0};
  return Budget{"budget", otherwise};
}

absl::Status CheckBudget(const Budget& budget, const ThinkingProfile& profile, int32_t most) {
  const std::string value = std::to_string(budget.tokens);
  if (budget.tokens == kDynamic) return absl::OkStatus();
  if (budget.tokens == 0) {
    if (profile.can_disable) return absl::OkStatus();
    return Bad(budget.field, "0 turns thinking off, which this model does not allow");
  }
  if (budget.tokens < profile.min || budget.tokens > profile.max)
    return Bad(budget.field, value + " is outside the model's range of " +
                                 std::to_string(profile.min) + " to " +
                                 std::to_string(profile.max));
  if (budget.tokens > most)
    return Bad(budget.field,
               value + " does not fit: max_new_tokens less the reserve is " + std::to_string(most));
  return absl::OkStatus();
}

// The model may choose any of them.
absl::Status CheckTagBudgets(const std::map<std::string, int32_t>& budgets,
                             const ThinkingParams& thinking, const ThinkingProfile& profile,
                             int32_t most) {
  for (const auto& [tag, tokens] : budgets) {
    RETURN_IF_ERROR(CheckBudget({"tag", tokens}, profile, most));
    if (thinking.min_tokens > tokens)
      return Bad("min_tokens", std::to_string(thinking.min_tokens) + " is above the budget of " +
                                   std::to_string(tokens) + " that " + tag + " stands for");
  }
  return absl::OkStatus();
}

std::string ExhaustionText(const ThinkingParams& thinking, const std::string& close) {
  if (thinking.on_exhaust == "custom") return thinking.exhaust_text;
  if (thinking.on_exhaust == "s1") return close + "\n\nFinal Answer:";
  if (thinking.on_exhaust == "cwm") return "..." + close;
  // Qwen3 technical report (arXiv 2505.09388) §4.3.
  return "Considering the limited time by the user, I have to give the solution based on the "
         "thinking directly now.\n" +
         close + ".\n\n";
}

ThinkPhase PhaseOf(const std::string& opening, const ThinkingProfile& profile) {
  const size_t open = opening.rfind(profile.open);
  if (open == std::string::npos) return ThinkPhase::kBefore;
  if (opening.find(profile.close, open) == std::string::npos) return ThinkPhase::kInside;
  // A block that the chat template closed for this answer; earlier ones have text behind them.
  const size_t close_end = opening.rfind(profile.close) + profile.close.size();
  const bool ends = opening.find_first_not_of(" \t\r\n", close_end) == std::string::npos;
  return ends ? ThinkPhase::kAfter : ThinkPhase::kBefore;
}

// What makes thinking an empty, closed block, given how the prompt ends.
std::string OffPrefill(const std::string& prompt_text, ThinkPhase phase,
                       const ThinkingProfile& profile) {
  if (phase == ThinkPhase::kAfter) return "";
  if (phase == ThinkPhase::kBefore) return profile.open + "\n\n" + profile.close + "\n\n";
  return (prompt_text.ends_with("\n") ? "\n" : "\n\n") + profile.close + "\n\n";
}

absl::Status PlanCap(const ThinkingParams& thinking, int32_t room, int32_t reserve,
                     const EncodeText& encode, ThinkingPlan& plan) {
  const std::string text = ExhaustionText(thinking, plan.close);
  if (text.find(plan.close) == std::string::npos)
    return Bad("on_exhaust", "the text must hold the closing tag " + plan.close);
  ASSIGN_OR_RETURN(plan.exhaustion, encode(text));
  const int64_t latest = int64_t{room} - reserve - static_cast<int64_t>(plan.exhaustion.size());
  if (latest < static_cast<int64_t>(plan.prefill.size()))
    return Bad("reserve", std::to_string(reserve) + " tokens and the " +
                              std::to_string(plan.exhaustion.size()) +
                              " of the closing string leave no room to think in " +
                              std::to_string(room));
  plan.latest = static_cast<int32_t>(latest);
  plan.min_tokens = thinking.min_tokens;
  // "Extended as often as needed" is what a least length asks for.
  plan.extensions = thinking.extensions.value_or(
      thinking.min_tokens > 0 ? std::numeric_limits<int32_t>::max() : 0);
  if (plan.extensions > 0) {
    ASSIGN_OR_RETURN(plan.extension, encode(thinking.extension_text));
  }
  return absl::OkStatus();
}

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

}  // namespace

std::optional<bool> LastModeFlag(std::string_view prompt_text) {
  std::string text(prompt_text);
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  size_t last = 0;
  std::optional<bool> flag;
  for (const auto& [words, on] : {std::pair<std::string_view, bool>{"/think", true},
                                  {"/no_think", false},
                                  {"detailed thinking on", true},
                                  {"detailed thinking off", false}}) {
    for (size_t at = text.rfind(words); at != std::string::npos;
         at = at == 0 ? std::string::npos : text.rfind(words, at - 1)) {
      const size_t end = at + words.size();
      // "</think>", "a/think" and "/thinking" are no flags.
      const bool whole = (at == 0 || (text[at - 1] != '<' && !IsWord(text[at - 1]))) &&
                         (end == text.size() || (!IsWord(text[end]) && text[end] != '/'));
      if (!whole) continue;
      if (!flag || at >= last) {
        last = at;
        flag = on;
      }
      break;
    }
  }
  return flag;
}

absl::StatusOr<ThinkingPlan> PlanThinking(const std::optional<ThinkingParams>& thinking,
                                          const ThinkingProfile& profile,
                                          const std::string& prompt_text,
                                          const std::string& opening, int32_t room,
                                          const EncodeText& encode) {
  ThinkingPlan plan;
  plan.open = profile.open;
  plan.close = profile.close;
  plan.start = PhaseOf(opening, profile);
  if (!thinking) return plan;
  RETURN_IF_ERROR(CheckThinking(*thinking));
  plan.controlled = true;
  const int32_t reserve = thinking->reserve.value_or(std::min(room / 4, kMostReserve));
  if (reserve < 0 || reserve >= room)
    return Bad("reserve", std::to_string(reserve) + " is not in [0, " + std::to_string(room) +
                              "), the tokens that the response can have");
  const int32_t most = room - reserve;
  ASSIGN_OR_RETURN(const Budget budget, DecideBudget(*thinking, profile, prompt_text, most));
  RETURN_IF_ERROR(CheckBudget(budget, profile, most));
  plan.budget = budget.tokens;
  if (plan.budget >= 0 && thinking->min_tokens > plan.budget)
    return Bad("min_tokens", std::to_string(thinking->min_tokens) + " is above the budget of " +
                                 std::to_string(plan.budget));
  if (thinking->min_tokens > most)
    return Bad("min_tokens", std::to_string(thinking->min_tokens) +
                                 " does not fit: max_new_tokens less the reserve is " +
                                 std::to_string(most));
  plan.guided = thinking->guidance;
  plan.plain_draw = thinking->guidance_draw == "plain";
  if (plan.guided && plan.budget <= 0)
    return Bad("guidance", "needs a budget above 0, and " + budget.field + " gives " +
                               std::to_string(plan.budget));
  if (plan.budget == 0) {
    ASSIGN_OR_RETURN(plan.prefill, encode(OffPrefill(prompt_text, plan.start, profile)));
    if (static_cast<int64_t>(plan.prefill.size()) >= room)
      return Bad(budget.field, "the closed block of thinking alone fills max_new_tokens");
    plan.start = ThinkPhase::kAfter;
    return plan;
  }
  if (budget.field == "tag") {
    if (thinking->tag == "dynamic") {
      plan.tag_budgets = TagBudgets(profile, most);
      RETURN_IF_ERROR(CheckTagBudgets(plan.tag_budgets, *thinking, profile, most));
    } else {
      ASSIGN_OR_RETURN(plan.prefill, encode(thinking->tag));
    }
  }
  RETURN_IF_ERROR(PlanCap(*thinking, room, reserve, encode, plan));
  return plan;
}

}  // namespace tramontane
