#include "trainer/ledger/lineage.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace tramontane {
namespace {

class Checker {
 public:
  explicit Checker(const std::vector<JournalRecord>& records) : records_(records) {}

  Lineage Run() {
    for (index_ = 0; index_ < records_.size(); ++index_) {
      const JournalRecord& record = records_[index_];
      CheckEpoch(record);
      if (record.kind == "batch") {
        Batch(record);
      } else if (record.kind == "drop") {
        Drop(record);
      } else if (record.kind == "rollback") {
        Rollback(record);
      } else if (record.kind != "epoch") {
        Problem("unknown kind '" + record.kind + "'");
      }
    }
    for (size_t batch : lineage_.batches) {
      lineage_.trained_groups += static_cast<int64_t>(records_[batch].gids.size());
    }
    return std::move(lineage_);
  }

 private:
  enum class End { kTrained, kDropped, kRolledBack };
  struct Fate {
    End end;
    uint64_t cursor;
    int64_t step;
  };

  void Problem(const std::string& what) {
    lineage_.problems.push_back("record " + std::to_string(index_ + 1) + ": " + what);
  }

  void CheckEpoch(const JournalRecord& record) {
    if (record.epoch < lineage_.last_epoch) {
      Problem("epoch " + std::to_string(record.epoch) + " after " + std::to_string(lineage_.last_epoch));
    } else if (record.kind == "epoch" && record.epoch == lineage_.last_epoch) {
      Problem("epoch " + std::to_string(record.epoch) + " starts twice");
    }
    lineage_.last_epoch = std::max(lineage_.last_epoch, record.epoch);
  }

  bool Aligned(const JournalRecord& record) {
    const bool blobs_ok = record.kind != "batch" || record.blobs.size() == record.gids.size();
    if (record.cursors.size() == record.gids.size() && blobs_ok) return true;
    Problem("gids, blobs and cursors differ in number");
    return false;
  }

  void Batch(const JournalRecord& record) {
    if (!Aligned(record)) return;
    if (record.step != lineage_.last_step + 1) {
      Problem("step " + std::to_string(record.step) + " after step " + std::to_string(lineage_.last_step));
    }
    if (record.gids.empty()) Problem("a batch without groups");
    for (size_t i = 0; i < record.gids.size(); ++i) Record(record, i, End::kTrained);
    lineage_.last_step = record.step;
    lineage_.batches.push_back(index_);
  }

  void Drop(const JournalRecord& record) {
    if (!Aligned(record)) return;
    for (size_t i = 0; i < record.gids.size(); ++i) Record(record, i, End::kDropped);
    lineage_.dropped_groups[record.detail.value("reason", "unknown")] +=
        static_cast<int64_t>(record.gids.size());
  }

  void Record(const JournalRecord& record, size_t i, End end) {
    const std::string& gid = record.gids[i];
    const auto [it, is_new] = fates_.try_emplace(gid, Fate{end, record.cursors[i], record.step});
    if (!is_new) {
      static constexpr const char* kNames[] = {"trained", "dropped", "rolled back"};
      Problem("group " + gid + " is " + kNames[static_cast<int>(end)] + ", but was " +
              kNames[static_cast<int>(it->second.end)] + " at step " + std::to_string(it->second.step));
    }
    const auto [owner, cursor_is_new] = gid_of_cursor_.try_emplace(record.cursors[i], gid);
    if (!cursor_is_new && owner->second != gid) {
      Problem("cursor " + std::to_string(record.cursors[i]) + " belongs to two groups");
    }
  }

  void Rollback(const JournalRecord& record) {
    if (record.step > lineage_.last_step || record.step < 0) {
      Problem("rollback to step " + std::to_string(record.step) + ", which was not reached");
      return;
    }
    while (!lineage_.batches.empty() && records_[lineage_.batches.back()].step > record.step) {
      for (const std::string& gid : records_[lineage_.batches.back()].gids) {
        fates_.at(gid).end = End::kRolledBack;
        ++lineage_.rolled_back_groups;
      }
      lineage_.batches.pop_back();
    }
    lineage_.last_step = record.step;
  }

  const std::vector<JournalRecord>& records_;
  size_t index_ = 0;
  Lineage lineage_;
  std::unordered_map<std::string, Fate> fates_;
  std::unordered_map<uint64_t, std::string> gid_of_cursor_;
};

}  // namespace

Lineage VerifyLineage(const std::vector<JournalRecord>& records) { return Checker(records).Run(); }

}  // namespace tramontane
