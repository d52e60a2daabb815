// The rule `patch`: applies the unified diff of an answer to the row's repository, runs the row's
// tests among the files in a sandbox, and compares what came out with what was expected, out here
// (run_tests.h). Tests and expected results are nothing that a patch can reach or change.
#pragma once

#include <memory>

#include "verifier/code/code_params.h"
#include "verifier/rules/rule.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// The share is CWM's (arXiv 2510.02387 §5): 1 when all tests pass, else `similarity_threshold` when
// the patch is at least that similar to the gold patch, else 0 (or what `scoring` gives, if that is
// more). With the term accuracy {right: s - 1, wrong: -1} the reward is s - 1, threshold * s - 1 or
// -1. A patch that cannot be read, leaves the repository or changes a test is 0, however similar.
// `runner` and `most` as CodeRule()'s.
AnswerRule PatchRule(std::shared_ptr<ProgramRunner> runner, const RunLimits& most = kAnyLimits);

}  // namespace tramontane
