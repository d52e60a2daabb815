#include "verifier/sandbox/file_tree.h"

#include <algorithm>
#include <cstdint>
#include <set>

#include "common/status.h"
#include "verifier/sandbox/jail_wire.h"

namespace tramontane {
namespace {

absl::Status BadPath(const std::string& path, const std::string& problem) {
  return absl::InvalidArgumentError("file '" + path.substr(0, kMaxTreePathBytes) + "': " + problem);
}

}  // namespace

absl::Status CheckTreePath(const std::string& path) {
  if (path.empty()) return BadPath(path, "the path is empty");
  if (path.size() > kMaxTreePathBytes) return BadPath(path, "the path is longer than 200 bytes");
  if (path[0] == '/') return BadPath(path, "the path must be relative");
  const auto odd = [](unsigned char c) { return c < 0x20 || c >= 0x7F || c == '\\'; };
  if (std::any_of(path.begin(), path.end(), odd)) {
    return BadPath(path, "the path has a backslash or what is not printable ASCII");
  }
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") {
      return BadPath(path, "the path must not have empty parts, \".\" or \"..\"");
    }
    start = end + 1;
  }
  return absl::OkStatus();
}

absl::Status CheckFileTree(const FileTree& tree) {
  std::set<std::string> folders;
  size_t bytes = 0;
  for (const auto& [path, content] : tree) {
    RETURN_IF_ERROR(CheckTreePath(path));
    bytes += content.size();
    for (size_t at = path.find('/'); at != path.npos; at = path.find('/', at + 1)) {
      folders.insert(path.substr(0, at));
    }
  }
  for (const std::string& folder : folders) {
    if (tree.contains(folder)) return BadPath(folder, "is a folder of another file's path");
  }
  if (bytes > kMaxTreeBytes) return absl::InvalidArgumentError("the files exceed 4 MiB");
  if (tree.size() + folders.size() > kMaxTreeEntries) {
    return absl::InvalidArgumentError("there are more than 200 files and folders");
  }
  return absl::OkStatus();
}

std::string PackedTree(const FileTree& tree) {
  std::string packed;
  for (const auto& [path, content] : tree) {
    const TreeEntry entry{static_cast<uint32_t>(path.size()), static_cast<uint32_t>(content.size())};
    packed.append(reinterpret_cast<const char*>(&entry), sizeof entry);
    packed += path;
    packed += content;
  }
  return packed;
}

}  // namespace tramontane
