// The trainer's write-ahead journal: the truth about which groups were trained on. One JSON record
// a line, each with the previous record's hash; fsynced before the step it describes is taken.
// A torn last line is cut off on open; any other damage is DataLoss. One thread.
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
  std::string kind;  // "batch" | "drop" | "epoch" | "rollback"
  int64_t epoch = 0;
  int64_t step = 0;                // batch: the step about to be taken
  std::vector<std::string> gids;   // in training order
  std::vector<std::string> blobs;  // same order
  std::vector<uint64_t> cursors;   // same order
  // batch: {"verifiers": {"name@version": [digest]}, "rows"}; drop: {"reason", "rows"}, where rows
  // is {row id: [groups, samples, right]} of groups that were finished (prompt_source.h); rollback:
  // batches after `step` are void, {"reason"}; epoch: {"run_id"}
  Json detail = Json::object();

  bool operator==(const JournalRecord&) const = default;
};

class Journal {
 public:
  // Creates the file or verifies the existing one, and locks it: FailedPrecondition while another
  // process has it open.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path);
  // The records of a journal that may be in use by its owner; changes nothing.
  static absl::StatusOr<std::vector<JournalRecord>> Read(const std::string& path);
  ~Journal();

  // Appended in order; on return with `durable` the record and all before it are on disk. A record
  // that could not be written whole is taken back (ResourceExhausted: disk full). After a failed
  // fsync nobody knows what is on disk: every later append is refused.
  absl::Status Append(const JournalRecord& record, bool durable);
  const std::vector<JournalRecord>& records()
      const;                 // as verified by Open; later ones are not added
  int64_t size() const;      // records in the file, appended ones included
  std::string head() const;  // hash of the last record; "" when there is none
  // True if record number `size` (counted from 1) of those verified by Open had this hash.
  bool Contains(int64_t size, const std::string& head) const;

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
