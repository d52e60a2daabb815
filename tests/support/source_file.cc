#include "tests/support/source_file.h"

namespace tramontane {

std::string SourceFile(const std::string& path) {
  return std::string(TRAMONTANE_SOURCE_DIR) + "/" + path;
}

}  // namespace tramontane
