// Files that a program is started among: paths relative to its working folder, and their bytes.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"

namespace tramontane {

using FileTree = std::map<std::string, std::string>;  // path → content

// Of one tree. Files and the folders on their paths share the inodes of a scratch folder.
inline constexpr size_t kMaxTreeEntries = 200;
inline constexpr size_t kMaxTreeBytes = 4 << 20;
inline constexpr size_t kMaxTreePathBytes = 200;

// InvalidArgument unless `path` stays below the folder it is resolved in, whatever the folder
// holds: relative, no empty part, no "." or "..", printable ASCII without a backslash.
absl::Status CheckTreePath(const std::string& path);

// InvalidArgument also when the tree is too large, or a file's path is another's folder.
absl::Status CheckFileTree(const FileTree& tree);

// As the jail program reads it (jail/tree.h). `tree` has been through CheckFileTree().
std::string PackedTree(const FileTree& tree);

}  // namespace tramontane
