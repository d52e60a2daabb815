// Names that nobody else has: not reproducible, not secret.
#pragma once

#include <string>

namespace tramontane {

std::string RandomHex(size_t digits);  // lower case

}  // namespace tramontane
