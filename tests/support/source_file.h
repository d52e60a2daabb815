// Files of the source tree that tests read: examples, golden tables, pages.
#pragma once

#include <string>

namespace tramontane {

// The absolute path of `path`, which is relative to the root of the source tree.
std::string SourceFile(const std::string& path);

}  // namespace tramontane
