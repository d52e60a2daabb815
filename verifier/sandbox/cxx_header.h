// bits/stdc++.h compiled ahead, which takes most of the time out of compiling a short program. Made
// once for a compiler and kept where every jail can read it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

// Flags that both the header and every program are compiled with.
std::vector<std::string> CxxFlags();

// Folder to give to -I: /var/tmp/tramontane-headers-<user>-<hash>. Makes the header unless it is
// there, in some seconds; processes that do so at once do not disturb each other. Errors: NotFound
// (no such compiler), FailedPrecondition (the folder is somebody else's), Internal (it does not
// compile).
absl::StatusOr<std::string> PrecompiledHeaderDir(const std::string& compiler);

}  // namespace tramontane
