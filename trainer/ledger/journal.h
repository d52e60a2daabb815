// The trainer's write-ahead journal: the truth about which groups were trained on. One JSON record
// a line, each with the previous record's hash; fsynced before the step it describes is taken.
// A torn last line is cut off on open; any other damage is DataLoss.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

struct JournalRecord {
  uint32_t format_version = 1;
  std::string kind;   // "batch" | "drop" | "epoch" | "rollback"
  int64_t epoch = 0;
  int64_t step = 0;   // batch: the step about to be taken
  std::vector<std::string> gids;   // in training order
  std::vector<std::string> blobs;  // same order
  std::vector<uint64_t> cursors;   // same order
  Json detail = Json::object();    // drop: {"reason"}, …
};

class Journal {
 public:
  // Creates the file or verifies the existing one.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path);
  ~Journal();

  // Appended in order; on return with `durable` the record and all before it are on disk.
  absl::Status Append(const JournalRecord& record, bool durable);
  const std::vector<JournalRecord>& records() const;  // since the oldest kept
  std::string head() const;  // hash of the last record

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
