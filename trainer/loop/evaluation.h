// Held-out accuracy: rounds of greedy samples of the eval rows, dispatched before train groups and
// gathered while training goes on. Not part of the lineage: nothing of it is journalled. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

struct EvalResult {
  int64_t step = 0;                 // weight version when the round was started
  double accuracy = 0;              // share of right answers among the valid ones
  double reward_mean = 0;
  int64_t rows = 0, invalid = 0;    // invalid: no verdict, or the group never finished
  int64_t version_min = 0, version_max = 0;  // that sampled the answers
  double seconds = 0;
  std::vector<Group> groups;        // for the rollout log
};

class Evaluation {
 public:
  // `epoch` goes into the group ids: after a restart a round is made anew, whatever became of its
  // first attempt.
  Evaluation(std::vector<PromptRow> rows, const std::string& run_id, int64_t epoch,
             const RolloutSection& rollout);

  bool enabled() const { return !rows_.empty(); }
  void Start(int64_t step);                // no-op while a round of this step is under way
  bool active() const;                     // a round is under way
  int64_t outstanding() const;             // groups still awaited
  std::optional<GroupTask> NextTask();     // to be dispatched; epoch is left to the caller
  void SetIssued(const std::string& gid, const std::string& task_blob);
  struct Issued {
    std::string gid, task_blob;
  };
  std::vector<Issued> Running() const;     // dispatched and not finished
  bool Owns(const std::string& gid) const;
  // The task blob of the group, no longer needed.
  std::string Finished(const std::string& gid, Group group);
  std::string Failed(const std::string& gid);
  std::vector<EvalResult> TakeResults();

 private:
  struct Round {
    EvalResult result;
    int64_t started_ms = 0;
    std::map<std::string, std::string> awaited;  // gid → task blob
    int64_t valid = 0, correct = 0;
    double reward_sum = 0;
  };
  std::string Settle(const std::string& gid, std::optional<Group> group);

  const std::vector<PromptRow> rows_;
  const std::string id_space_;
  const SamplingParams sampling_;
  mutable std::mutex mutex_;  // guards what follows
  uint64_t rounds_started_ = 0;
  std::list<Round> rounds_;
  std::map<std::string, Round*> round_of_;
  std::deque<GroupTask> tasks_;
  std::vector<EvalResult> results_;
};

}  // namespace tramontane
