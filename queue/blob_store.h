// Content-addressed payloads: the claim check of the queue. Files <root>/ab/<sha256>; written
// atomically and fsynced, verified on read. Any thread, any process that shares the folder.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

class BlobStore {
 public:
  static absl::StatusOr<BlobStore> Open(const std::string& root);
  absl::StatusOr<std::string> Put(std::string_view bytes) const;       // returns the address
  absl::StatusOr<std::string> Get(const std::string& address) const;   // DataLoss on a hash mismatch
  absl::Status Remove(const std::string& address) const;               // missing is OK
  // Deletes what a crash left behind: every file not in `keep` that was written more than
  // `older_than_s` ago (younger ones may belong to a group about to be completed). Returns how many.
  absl::StatusOr<int64_t> Sweep(const std::set<std::string>& keep, double older_than_s) const;

 private:
  explicit BlobStore(std::string root) : root_(std::move(root)) {}
  std::string PathOf(const std::string& address) const;
  std::string root_;
};

}  // namespace tramontane
