// Content-addressed payloads: the claim check of the queue. Files <root>/ab/<sha256>; written
// atomically and fsynced, verified on read. Any thread, any process that shares the folder.
#pragma once

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

 private:
  explicit BlobStore(std::string root) : root_(std::move(root)) {}
  std::string PathOf(const std::string& address) const;
  std::string root_;
};

}  // namespace tramontane
