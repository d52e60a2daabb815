#include "queue/blob_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>

#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"

namespace tramontane {
namespace {

bool IsAddress(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

absl::StatusOr<BlobStore> BlobStore::Open(const std::string& root) {
  RETURN_IF_ERROR(MakeDirs(root));
  RETURN_IF_ERROR(FsyncDir(root));
  return BlobStore(root);
}

std::string BlobStore::PathOf(const std::string& address) const {
  return root_ + '/' + address.substr(0, 2) + '/' + address;
}

absl::StatusOr<std::string> BlobStore::Put(std::string_view bytes) const {
  std::string address = Sha256Hex(bytes);
  const std::string path = PathOf(address);
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0 && static_cast<size_t>(st.st_size) == bytes.size()) return address;
  absl::Status written = WriteFileAtomic(path, bytes);
  if (absl::IsNotFound(written)) {  // the first blob with these two digits
    RETURN_IF_ERROR(MakeDirs(std::filesystem::path(path).parent_path().string()));
    RETURN_IF_ERROR(FsyncDir(root_));
    written = WriteFileAtomic(path, bytes);
  }
  RETURN_IF_ERROR(written);
  return address;
}

absl::StatusOr<std::string> BlobStore::Get(const std::string& address) const {
  if (!IsAddress(address)) return absl::InvalidArgumentError("not a blob address: " + address);
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(PathOf(address)));
  if (Sha256Hex(bytes) != address) {
    return absl::DataLossError(PathOf(address) + ": content does not match its address");
  }
  return bytes;
}

absl::Status BlobStore::Remove(const std::string& address) const {
  if (!IsAddress(address)) return absl::InvalidArgumentError("not a blob address: " + address);
  const std::string path = PathOf(address);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, path);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> BlobStore::Sweep(const std::set<std::string>& keep, double older_than_s) const {
  int64_t removed = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator it(root_, error), end;
  for (; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat st {};
    if (::stat(it->path().c_str(), &st) != 0 || !S_ISREG(st.st_mode) || keep.count(name) > 0) continue;
    if (std::difftime(std::time(nullptr), st.st_mtime) < older_than_s) continue;
    if (::unlink(it->path().c_str()) == 0) ++removed;
  }
  if (error) return ErrnoStatus(error.value(), root_);
  return removed;
}

}  // namespace tramontane
