// Where every train group stands between its issue and its end; the meeting point of the loop's
// threads. Any thread. A group ends only when the learner's thread says that its end is journalled,
// so a snapshot of the frontier never runs ahead of the journal.
//
//   issued → running → ready → taken → (journalled) ended
//                  ↘ dropped ↗
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/rollout.h"
#include "queue/work_queue.h"
#include "trainer/ledger/prompt_cursor.h"
#include "trainer/ledger/staleness.h"

namespace tramontane {

struct ReadyGroup {
  uint64_t cursor = 0;
  Group group;  // invalid samples removed
  std::string blob;
};

// A group that will not be trained on, waiting to be journalled.
struct DroppedGroup {
  uint64_t cursor = 0;
  std::string gid;
  std::string blob;  // of the finished group; "" when it never finished
  std::string reason;
  Terminal terminal = Terminal::kDropped;
  std::optional<Group> group;  // for the rollout log
};

struct BookCounts {
  uint64_t issued = 0;  // by this process
  int64_t running = 0, ready = 0, in_training = 0;
};

class GroupBook {
 public:
  struct Options {
    BatchPlan groups_per_step = 1;
    int64_t max_staleness_versions = 0;
    int64_t max_steps = 0;
    int64_t version = 0;
    int64_t tokens_per_step = 0;  // > 0: so many sampled tokens are a batch, however few the groups
  };
  GroupBook(const Options& options, CursorFrontier frontier);

  // --- dispatcher
  // The next prompt to issue if admission has room for it; from now on it counts as running.
  std::optional<uint64_t> NextToIssue();
  void SetIssued(uint64_t cursor, const std::string& gid, const std::string& task_blob);
  struct Issued {
    uint64_t cursor;
    std::string gid, task_blob;
  };
  std::vector<Issued> Running() const;                    // issued, and not known to be finished
  void WaitForChange(std::chrono::milliseconds timeout);  // room for an issue may have come up
  void Wake();

  // --- collector
  enum class Standing { kRunning, kFinished, kUnknown };
  Standing StandingOf(const std::string& gid) const;
  std::optional<uint64_t> CursorOf(const std::string& gid) const;
  // A finished group that an earlier process issued: true if it is wanted, then it counts as
  // running.
  bool Adopt(uint64_t cursor, const std::string& gid);
  void MarkReady(ReadyGroup group);
  void MarkDropped(DroppedGroup group);

  // --- learner
  // The oldest ready groups once there are enough of them, or of their tokens, for the next step; those that became stale while
  // they waited are dropped first. With `accept_short`, as many as there are, at least one.
  std::optional<std::vector<ReadyGroup>> TakeBatch(bool accept_short);
  bool WaitForReady(std::chrono::milliseconds timeout);  // true when a batch may be there
  std::vector<DroppedGroup> TakeDropped();  // the caller journals them, then calls SetEnded
  // Their end is in the journal. Returns the task blobs of those that were issued here.
  std::vector<std::string> SetEnded(const std::vector<uint64_t>& cursors);
  // At the end of a run, with dispatcher and collector stopped: everything still live is dropped.
  void DropAll(const std::string& reason);
  void StepDone(int64_t version);  // the batch taken last is part of this version
  CursorFrontier frontier() const;

  BookCounts counts() const;
  int64_t version() const;
  const StalenessGate& gate() const { return gate_; }

 private:
  enum class State { kRunning, kReady, kDropped, kTaken };
  struct Entry {
    State state = State::kRunning;
    std::string gid;
    std::string task_blob;
    std::optional<ReadyGroup> ready;  // kReady only
    int64_t issued_version = 0;
  };
  // Running, and overtaken by all that was issued beside it: what was sampled for it then would be
  // too old by now. Waiting for one (a verifier that sleeps, a slow generator) must cost the others
  // nothing, so its place is given to a new group; should it be fresh after all, it is welcome.
  int64_t CountOverdueLocked() const;
  int64_t CountLocked(State state) const;
  void SetState(Entry& entry, State state);

  const Options options_;
  const StalenessGate gate_;
  mutable std::mutex mutex_;
  std::condition_variable room_, ready_;
  bool woken_ = false;
  CursorFrontier frontier_;
  uint64_t next_ = 0;  // cursors below it were looked at
  std::map<uint64_t, Entry> live_;
  std::unordered_map<std::string, uint64_t> cursor_of_;
  int64_t in_state_[4] = {0, 0, 0, 0};
  std::vector<DroppedGroup> dropped_;
  int64_t in_training_ = 0;
  int64_t version_;
  uint64_t issued_ = 0;
};

}  // namespace tramontane
