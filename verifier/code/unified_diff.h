// Unified diffs, as `git diff` and `diff -u` write them: reading and strict application. Pure; time
// and memory linear in the input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "verifier/sandbox/file_tree.h"

namespace tramontane {

struct DiffLine {
  char kind = ' ';  // ' ' both, '-' old, '+' new
  std::string text;  // without its newline
  bool ends_file = false;  // "\ No newline at end of file" follows
};

struct DiffHunk {
  size_t old_start = 0, old_count = 0, new_start = 0, new_count = 0;  // lines, from 1
  std::string section;  // what follows the second @@
  std::vector<DiffLine> lines;
};

struct FileDiff {
  std::string path;
  bool creates = false, deletes = false;
  std::vector<DiffHunk> hunks;  // may be empty for an empty file that comes or goes
};

// Every line must be part of a file's header or of a hunk whose counts are right; empty lines may
// stand between files, and for empty context lines. File modes are ignored. InvalidArgument names
// the line that is wrong: renames, copies, binary files, quoted names and a file that comes twice
// are.
absl::StatusOr<std::vector<FileDiff>> ParseUnifiedDiff(std::string_view text);

// The tree after the change. Each hunk must fit at the line it names, byte for byte.
// FailedPrecondition names the file and the hunk that does not.
absl::StatusOr<FileTree> ApplyDiff(const FileTree& tree, const std::vector<FileDiff>& diffs);

}  // namespace tramontane
