// What searches borrow from the verifiers' room: graders by name, answers, and when two are equal.
#pragma once

#include "absl/status/statusor.h"
#include "common/config.h"
#include "generator/search_tool.h"

namespace tramontane {

// The built-in graders with this reward table. Thread-safe hooks; they share what they need.
absl::StatusOr<SearchHooks> MakeSearchHooks(const RewardSection& reward);

}  // namespace tramontane
