// A C++ program around somebody's function, for tests that call functions rather than programs.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

// A program that reads a JSON array of arguments from standard input, calls `function` (free, or a
// method of class Solution when `source` has one) and writes its result as JSON. What `source` prints
// goes to the error stream. Arguments and results may be numbers, bool, char, strings, vectors,
// arrays, pairs, tuples, sets, maps by string and optionals of these, by value or reference; void is
// null. Its own main() is not called. Errors: InvalidArgument (no such name is possible).
absl::StatusOr<std::string> CxxFunctionProgram(const std::string& source,
                                               const std::string& function);

}  // namespace tramontane
