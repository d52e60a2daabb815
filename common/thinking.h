// What a request says about thinking: how much of it, and what happens when it is used up.
// A plain value; generator/core/thinking_plan.h resolves it against a model and a prompt.
//
// The precedence of what decides the budget: budget > effort > tag > mode > the model's default.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

struct ThinkingParams {
  std::optional<int32_t> budget = {};  // tokens; 0 = off, -1 = the model stops itself
  std::string effort = {};             // low | medium | high: a share of max_new_tokens − reserve
  std::string tag = {};                // "[Easy]": put in front; "dynamic": the model's first words
  std::string mode = {};               // on | off; empty: flags in the prompt, the last one wins
  int32_t min_tokens = 0;              // an earlier end of thinking is extended
  std::string on_exhaust = "qwen3";    // qwen3 | s1 | cwm | custom
  std::string exhaust_text = {};       // of on_exhaust custom; holds the closing tag
  std::optional<int32_t> reserve = {};     // tokens kept for the answer
  std::optional<int32_t> extensions = {};  // most ends of thinking that are taken back
  std::string extension_text = "Wait";
  bool guidance = false;  // steers towards the budget by the model's length predictor
  // How guided tokens are drawn: request (its temperature and cuts hold) | plain (temperature 1,
  // nothing cut off, as the authors of the method do; a greedy request stays greedy).
  std::string guidance_draw = "request";

  bool operator==(const ThinkingParams&) const = default;
};

// {"budget", "effort", "tag", "mode", "min_tokens", "on_exhaust": name or {"text"}, "reserve",
//  "extensions", "extension_text", "guidance", "guidance_draw"}. InvalidArgument names the field as
// "thinking.budget".
absl::StatusOr<ThinkingParams> ThinkingFromJson(const nlohmann::json& json);
nlohmann::json ToJson(const ThinkingParams& thinking);

// What needs no model to be known wrong: names, signs, combinations.
absl::Status CheckThinking(const ThinkingParams& thinking);

}  // namespace tramontane
