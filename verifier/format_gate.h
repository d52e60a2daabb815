// Magistral's format gate (arXiv 2506.10910 §2.2): a completion starts with <think>, holds exactly
// one pair of think tags, and has a \boxed{} after it. Pure, one pass over the text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/config.h"

namespace tramontane {

struct FormatCheck {
  bool passed = false;
  bool tags_in_order = false;        // think tags alone
  std::string reason;                // what was wrong, for a person; empty when passed
  std::optional<std::string> boxed;  // content of the last box of the answer part, passed or not
  // Pieces of the completion. Thoughts that never end hold no answer: it is absent then.
  std::optional<std::string> answer;
  std::string thoughts;
};

// `boxed`: the answer belongs into a box (and `reward.require_boxed` is on).
FormatCheck CheckFormat(std::string_view completion, const RewardSection& reward, bool boxed = true);

// Content of the last \boxed{…} whose braces balance; the outermost when boxes are nested.
std::optional<std::string> LastBoxed(std::string_view text);

}  // namespace tramontane
