// Runs a program against the tests of a row and compares, out here, what came out. How a program
// ended can only count against it: no exit status makes a wrong output right.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "verifier/code/code_params.h"
#include "verifier/code/code_tests.h"
#include "verifier/rules/rule.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// correct: every test passed. share: by params.scoring. feedback: the first failure, and nothing of
// what was expected. Waits for the sandbox. Errors: Cancelled soon after `stop` is true; else those
// of ProgramRunner::Run().
absl::StatusOr<Judgement> RunTests(ProgramRunner& runner, const CodeTests& tests,
                                   const CodeParams& params, const ProgramSpec& program,
                                   const StopCheck& stop);

// For errors of RunTests(): all that is neither the row's fault nor a cancellation is Unavailable,
// the sandbox's.
absl::Status OfSandbox(const absl::Status& status);

}  // namespace tramontane
