// What a journal says happened, and whether it may have: the checker behind `tramontane doctor RUN`
// and the recovery tests. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/ledger/journal.h"

namespace tramontane {

struct Lineage {
  // Batches of the final weights in step order; indices into the journal's records.
  std::vector<size_t> batches;
  int64_t last_step = 0;
  int64_t last_epoch = 0;
  int64_t trained_groups = 0;
  int64_t rolled_back_groups = 0;
  std::map<std::string, int64_t> dropped_groups;  // by reason
  // Violations, in words: a gid twice in the final lineage, a gid both trained and dropped, one gid
  // under two cursors, steps that do not follow each other, epochs that fall. Empty: all is well.
  std::vector<std::string> problems;
};

Lineage VerifyLineage(const std::vector<JournalRecord>& records);

}  // namespace tramontane
