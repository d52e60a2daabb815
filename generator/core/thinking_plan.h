// From a request's thinking block to a plan: what the model allows, what the prompt says, what
// fits. Pure, torch-free; text becomes tokens by a function.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/thinking.h"
#include "generator/core/think_control.h"

namespace tramontane {

// What a model publishes about its thinking: the "thinking" object of generation_config.json,
// {"min", "max", "can_disable", "default", "open", "close", "tags": {"[Easy]": tokens}}.
struct ThinkingProfile {
  int32_t min = 1, max = INT32_MAX;  // budgets above 0
  bool can_disable = true;           // a budget of 0 is allowed
  std::optional<int32_t> default_budget;
  std::string open = "<think>", close = "</think>";
  std::map<std::string, int32_t> tags;  // empty: [Easy] a quarter of what fits, [Hard] all of it
};

// Defaults when the folder publishes nothing. InvalidArgument names file and key.
absl::StatusOr<ThinkingProfile> LoadThinkingProfile(const std::string& model_dir);

using EncodeText = std::function<absl::StatusOr<std::vector<int32_t>>(const std::string&)>;

// `room`: tokens that the response can have, max_new_tokens at most. A value outside the model's
// range or the room is InvalidArgument and names the field; nothing is clamped.
// Without `thinking` the plan controls nothing and knows only where the prompt left off: what
// `opening`, the end of the prompt that belongs to the answer already, leaves open. Tags that stand
// before it are somebody's words.
absl::StatusOr<ThinkingPlan> PlanThinking(const std::optional<ThinkingParams>& thinking,
                                          const ThinkingProfile& profile,
                                          const std::string& prompt_text,
                                          const std::string& opening, int32_t room,
                                          const EncodeText& encode);

// The last of /think, /no_think, "detailed thinking on" and "… off" in a prompt: on or off.
std::optional<bool> LastModeFlag(std::string_view prompt_text);

}  // namespace tramontane
