// The rule `code`: runs the program of an answer in a sandbox and compares what came out with what
// was expected, out here, where the program cannot reach. How a program ended can only count
// against it: no exit status makes a wrong output right.
#pragma once

#include <memory>

#include "verifier/code/code_params.h"
#include "verifier/rules/rule.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// A judgement waits for the sandbox; errors of the sandbox are the judgement's, never a score.
// Without a `runner` rows can be checked, and every judgement is Unavailable. `most`: what rows may
// ask for.
AnswerRule CodeRule(std::shared_ptr<ProgramRunner> runner, const RunLimits& most = kAnyLimits);

}  // namespace tramontane
