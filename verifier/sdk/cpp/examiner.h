// What every verifier has to survive (`validate`), and its author's own cases (`test`); the same as
// in the Python package.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "verifier/grader.h"

namespace tramontane {

struct Finding {
  std::string name;
  bool passed = false;
  std::string detail;
};

// One JSON object a line: a request's fields, and {"expect": {"reward", "correct", "status", …}}.
// Errors: NotFound; InvalidArgument with the line.
absl::StatusOr<std::vector<Finding>> RunCases(const Grader& grader, const std::string& path);

// Completions that policies produce sooner or later, and rows that data sets hold by mistake.
// `example`: a row as the verifier expects it, so that its function is reached.
std::vector<Finding> RunAdversarial(const Grader& grader, const Json& example);

// The first case of a file, as an example row.
absl::StatusOr<Json> ExampleOf(const std::string& path);

}  // namespace tramontane
