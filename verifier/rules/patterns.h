// How RE2 is asked to compile patterns that rows bring: quietly and within bounded memory.
#pragma once

#include <re2/re2.h>

namespace tramontane {

inline re2::RE2::Options PatternOptions(bool any_case = false) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(4 << 20);
  options.set_case_sensitive(!any_case);
  return options;
}

}  // namespace tramontane
