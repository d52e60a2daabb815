// Seeded makers of small reasoning tasks with worked solutions, for the demo and the tests:
// addition with carried digits in the thoughts, comparison, sorting, small equations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

struct TaskExample {
  std::string kind;        // "addition", "comparison", "sorting", "equation"
  std::string prompt;      // "123+45="
  std::string answer;      // "168"
  std::string completion;  // a teacher's "<think>…</think>\boxed{168}", without the end token
};

// A careless teacher forgets carries and miscounts, so that RL has something real to correct.
struct Teacher {
  double forget = 0.75;  // chance that a carry (or its like) is dropped
  double slip = 0.1;     // chance that one elementary step is miscounted
};

// `count` distinct prompts of the given kinds in equal shares, none of them in `exclude` (sorted).
// Deterministic for a seed. Errors: unknown kind; more prompts asked for than exist.
absl::StatusOr<std::vector<TaskExample>> MakeTasks(const std::vector<std::string>& kinds,
                                                   size_t count, uint64_t seed,
                                                   const Teacher& teacher,
                                                   const std::vector<std::string>& exclude);

}  // namespace tramontane
