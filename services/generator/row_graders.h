// The built-in graders that the rows of a dataset name.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "generator/tools.h"
#include "verifier/grader.h"

namespace tramontane {

struct RowGrader {
  std::unique_ptr<Grader> grader;
  Json params;  // of `verifiers`; a row's go before them
};
using RowGraders = std::map<std::string, RowGrader>;  // by the rows' verifier

// InvalidArgument when a row's verifier is not built in: those are asked in a run, not by tools.
absl::StatusOr<RowGraders> MakeRowGraders(const RunConfig& config,
                                          const std::vector<PromptRow>& rows);

// Thread-safe; `graders` outlive it.
GradeFunction GradeBy(const RowGraders& graders);

}  // namespace tramontane
