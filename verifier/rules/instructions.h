// The single instructions of ifeval.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "verifier/rules/language.h"

namespace tramontane {

// Whether `text` follows one instruction. InvalidArgument: the id is not known (the message lists
// those that are), an argument is missing or has the wrong type.
absl::StatusOr<bool> Follows(const std::string& text, const std::string& id, const Json& arguments,
                             const LanguageDetector& detector);

std::vector<std::string> InstructionIds();

}  // namespace tramontane
