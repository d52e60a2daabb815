// Tables of what must hold of a configuration: structs with name, field, why and holds.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace tramontane {

// InvalidArgument: the first rule of `rules` that does not hold, as "field: why (rule name)".
template <class Rules, class Config>
absl::Status CheckRules(const Rules& rules, const Config& config) {
  for (const auto& rule : rules) {
    if (rule.holds(config)) continue;
    return absl::InvalidArgumentError(std::string(rule.field) + ": " + rule.why + " (rule " +
                                      rule.name + ")");
  }
  return absl::OkStatus();
}

}  // namespace tramontane
