// What a row of the `patch` verifier asks for: its gold answer, as JSON. Parsing and checks; pure.
//
//   {"files": {"calc.py": "def add(a, b):\n    return a - b\n"},        the repository
//    "test_files": {"tests/check.py": "from calc import add\n"},        hidden; put in after the patch
//    "run": "tests/check.py",                                           of test_files
//    "function": "add", "tests": [{"args": [2, 3], "expected": 5}],     or input and output: code_tests.h
//    "patch": "--- a/calc.py\n+++ b/calc.py\n@@ …"}                     the gold patch; optional
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "verifier/code/code_tests.h"
#include "verifier/code/unified_diff.h"
#include "verifier/sandbox/file_tree.h"

namespace tramontane {

struct PatchTask {
  FileTree files, test_files;
  std::string run;  // key of test_files: the program that is run, once a test
  CodeTests tests;
  std::vector<FileDiff> gold;  // empty: the row has none
};

// InvalidArgument names the field that is missing or wrong, also when the gold patch does not apply.
absl::StatusOr<PatchTask> ParsePatchTask(const std::string& answer);

// PermissionDenied when a patch names a file outside of the repository or one of the tests.
absl::Status CheckTargets(const PatchTask& task, const std::vector<FileDiff>& diffs);

// The repository after the patch, with the tests in it. FailedPrecondition: the patch does not
// apply, or makes the repository too large for the sandbox.
absl::StatusOr<FileTree> PatchedTree(const PatchTask& task, const std::vector<FileDiff>& diffs);

}  // namespace tramontane
