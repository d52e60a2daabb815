#include "verifier/format_gate.h"

#include <vector>

namespace tramontane {
namespace {

constexpr std::string_view kBoxed = "\\boxed";

size_t Count(std::string_view text, std::string_view tag) {
  size_t count = 0;
  for (size_t at = text.find(tag); at != text.npos; at = text.find(tag, at + tag.size())) ++count;
  return count;
}

// Why the thoughts are not well-formed; empty when they are.
std::string ThoughtsProblem(std::string_view completion, const RewardSection& reward) {
  if (!completion.starts_with(reward.think_open)) return "does not start with " + reward.think_open;
  if (Count(completion, reward.think_open) != 1) return "more than one " + reward.think_open;
  const size_t closes = Count(completion, reward.think_close);
  if (closes == 0) return "no " + reward.think_close;
  if (closes > 1) return "more than one " + reward.think_close;
  return "";
}

// What follows the last thoughts. Thoughts that never end hold no answer: a box there is a guess on
// the way.
std::optional<std::string_view> AnswerPart(std::string_view completion,
                                           const RewardSection& reward) {
  if (reward.think_open.empty() || reward.think_close.empty()) return completion;
  const size_t close = completion.rfind(reward.think_close);
  if (close == completion.npos) {
    if (reward.require_think || completion.starts_with(reward.think_open)) return std::nullopt;
    return completion;
  }
  const std::string_view answer = completion.substr(close + reward.think_close.size());
  return answer.substr(0, answer.find(reward.think_open));
}

std::string WithoutTags(std::string_view thoughts, const RewardSection& reward) {
  if (!reward.think_open.empty() && thoughts.starts_with(reward.think_open)) {
    thoughts.remove_prefix(reward.think_open.size());
  }
  if (!reward.think_close.empty() && thoughts.ends_with(reward.think_close)) {
    thoughts.remove_suffix(reward.think_close.size());
  }
  return std::string(thoughts);
}

}  // namespace

std::optional<std::string> LastBoxed(std::string_view text) {
  // One pass with a stack of open braces, so that a megabyte of them costs a megabyte.
  struct Open {
    size_t content;
    bool boxed;
  };
  std::vector<Open> open;
  std::optional<std::string_view> last;
  size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (c == '\\') {
      if (text.substr(i).starts_with(kBoxed)) {
        size_t brace = i + kBoxed.size();
        while (brace < text.size() && text[brace] == ' ') ++brace;
        if (brace < text.size() && text[brace] == '{') {
          open.push_back({brace + 1, true});
          i = brace + 1;
          continue;
        }
      }
      i += 2;  // a command, or an escaped brace that opens nothing
      continue;
    }
    if (c == '{') {
      open.push_back({i + 1, false});
    } else if (c == '}' && !open.empty()) {
      if (open.back().boxed) last = text.substr(open.back().content, i - open.back().content);
      open.pop_back();
    }
    ++i;
  }
  if (!last) return std::nullopt;
  return std::string(*last);
}

FormatCheck CheckFormat(std::string_view completion, const RewardSection& reward, bool boxed) {
  FormatCheck check;
  if (reward.require_think) check.reason = ThoughtsProblem(completion, reward);
  check.tags_in_order = check.reason.empty();
  std::string_view thoughts = completion;
  if (const auto answer = AnswerPart(completion, reward)) {
    check.boxed = LastBoxed(*answer);
    check.answer = *answer;
    thoughts = completion.substr(0, static_cast<size_t>(answer->data() - completion.data()));
  }
  check.thoughts = WithoutTags(thoughts, reward);
  if (boxed && reward.require_boxed && check.reason.empty() && !check.boxed) {
    check.reason = "no \\boxed{} after the thoughts";
  }
  check.passed = check.reason.empty();
  return check;
}

}  // namespace tramontane
