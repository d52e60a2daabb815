// The safetensors container: read by mapping the file, written in one piece. Torch-free. Files are
// treated as hostile: everything the header claims is checked before any byte of it is used.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

struct SafetensorsEntry {
  std::string dtype;  // as in the file: F32, F16, BF16, F64
  std::vector<int64_t> shape;
  uint64_t offset_bytes = 0;  // from the start of the data section
  uint64_t size_bytes = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_offset_bytes = 0;  // of the data section in the file
};

constexpr uint64_t kMostSafetensorsHeaderBytes = 100'000'000;

// 0 if the dtype is not one of the four that models are stored in.
uint64_t SafetensorsElementBytes(const std::string& dtype);

// `prefix` holds at least the 8-byte length and the header; `file_bytes` is the whole file's size.
// The tensors must cover the data section exactly: no hole, no overlap, no excess. DataLoss.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view prefix,
                                                         uint64_t file_bytes);

// A mapped file, read-only; immutable, any thread. Errors name the file. A file that is cut short
// while it is mapped ends the process by SIGBUS: checkpoints are written aside and renamed.
class SafetensorsFile {
 public:
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const SafetensorsHeader& header() const { return header_; }
  const void* Data(const SafetensorsEntry& entry) const;

 private:
  SafetensorsFile(void* mapping, uint64_t bytes) : mapping_(mapping), bytes_(bytes) {}
  void* mapping_;
  uint64_t bytes_;
  SafetensorsHeader header_;
};

struct SafetensorsTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  uint64_t size_bytes = 0;
};

// Writes atomically and durably (common/files.h), in the order given, header padded to 8 bytes.
// `metadata` goes into the header, beside the format's name.
absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsTensor>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace tramontane
