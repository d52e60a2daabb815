// `init`: a verifier to start from, how it is built, and its first cases.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

// Writes NAME/NAME.cc, NAME/CMakeLists.txt and NAME/NAME_cases.jsonl under `folder`; returns their
// paths. Never over something that is there: AlreadyExists. InvalidArgument: no such name is
// possible.
absl::StatusOr<std::vector<std::string>> WriteScaffold(const std::string& name,
                                                       const std::string& folder);

}  // namespace tramontane
