#include "data/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/task_procedures.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kAll = {"addition", "comparison", "sorting", "equation"};
constexpr Teacher kCareful = {.forget = 0, .slip = 0};

std::vector<TaskExample> Made(size_t count, uint64_t seed, const Teacher& teacher = {},
                              const std::vector<std::string>& exclude = {}) {
  const auto tasks = MakeTasks(kAll, count, seed, teacher, exclude);
  EXPECT_TRUE(tasks.ok()) << tasks.status();
  return tasks.value_or(std::vector<TaskExample>());
}

std::string Boxed(const std::string& completion) {
  const size_t open = completion.rfind("\\boxed{");
  return completion.substr(open + 7, completion.size() - open - 8);
}

std::map<std::string, double> ShareRight(const std::vector<TaskExample>& tasks) {
  std::map<std::string, double> right, all;
  for (const TaskExample& task : tasks) {
    right[task.kind] += Boxed(task.completion) == task.answer;
    all[task.kind] += 1;
  }
  for (auto& [kind, share] : right) share /= all[kind];
  return right;
}

TEST(ProceduresTest, TheWorkedStepsAreThese) {
  Random random(1);
  const WorkedSolution sum = SolveAddition(123, 45, kCareful, random);
  EXPECT_EQ(sum.thoughts, "3+5+0=08;2+4+0=06;1+0+0=01;");
  EXPECT_EQ(sum.answer, "168");
  const WorkedSolution carried = SolveAddition(95, 17, kCareful, random);
  EXPECT_EQ(carried.thoughts, "5+7+0=12;9+1+1=11;");
  EXPECT_EQ(carried.answer, "112");
  const WorkedSolution largest = SolveComparison({12, 345, 309}, kCareful, random);
  EXPECT_EQ(largest.thoughts, "012:345=<<<;345:309==>>;");
  EXPECT_EQ(largest.answer, "345");
  const WorkedSolution sorted = SolveSorting({31, 7, 22}, kCareful, random);
  EXPECT_EQ(sorted.thoughts, "31>07;31>22;07<22;");
  EXPECT_EQ(sorted.answer, "7,22,31");
  const WorkedSolution solved =
      SolveEquation({.factor = 3, .addend = 18, .total = 96}, kCareful, random);
  EXPECT_EQ(solved.thoughts, "6-8-0=18;9-1-1=07;07/3=2r1;18/3=6r0;");
  EXPECT_EQ(solved.answer, "26");
}

TEST(ProceduresTest, AForgottenCarryShowsInTheAnswer) {
  Random random(1);
  const Teacher forgetful = {.forget = 1, .slip = 0};
  EXPECT_EQ(SolveAddition(95, 17, forgetful, random).thoughts, "5+7+0=12;9+1+0=10;");
  EXPECT_EQ(SolveAddition(95, 17, forgetful, random).answer, "102");
  EXPECT_EQ(SolveComparison({129, 345, 1}, forgetful, random).answer, "129");
  EXPECT_EQ(SolveSorting({31, 7, 22}, forgetful, random).answer, "31,7,22");
  EXPECT_EQ(SolveEquation({.factor = 3, .addend = 18, .total = 96}, forgetful, random).answer,
            "22");
}

TEST(TasksTest, ACarefulTeacherIsAlwaysRight) {
  for (const auto& [kind, share] : ShareRight(Made(4000, 5, kCareful))) {
    EXPECT_EQ(share, 1.0) << kind;
  }
}

TEST(TasksTest, TheCarelessTeacherLeavesWorkForRl) {
  const auto shares = ShareRight(Made(8000, 6));
  EXPECT_EQ(shares.size(), kAll.size());
  for (const auto& [kind, share] : shares) {
    EXPECT_GT(share, 0.2) << kind;
    EXPECT_LT(share, 0.5) << kind;
  }
}

TEST(TasksTest, AnswersFollowFromThePrompt) {
  for (const TaskExample& task : Made(400, 11, kCareful)) {
    if (task.kind == "addition") {
      int a = 0, b = 0;
      ASSERT_EQ(std::sscanf(task.prompt.c_str(), "%d+%d=", &a, &b), 2);
      EXPECT_EQ(task.answer, std::to_string(a + b));
    } else if (task.kind == "equation") {
      int factor = 0, addend = 0, total = 0;
      char variable = 0, again = 0;
      ASSERT_EQ(std::sscanf(task.prompt.c_str(), "%d%c+%d=%d;%c=", &factor, &variable, &addend,
                            &total, &again),
                5);
      EXPECT_EQ(variable, again);
      EXPECT_EQ(factor * std::stoi(task.answer) + addend, total);
    } else {
      int a = 0, b = 0, c = 0;
      const bool sort = task.kind == "sorting";
      ASSERT_EQ(
          std::sscanf(task.prompt.c_str(), sort ? "sort(%d,%d,%d)=" : "max(%d,%d,%d)=", &a, &b, &c),
          3);
      std::vector<int> numbers = {a, b, c};
      std::sort(numbers.begin(), numbers.end());
      EXPECT_EQ(task.answer, sort ? std::to_string(numbers[0]) + "," + std::to_string(numbers[1]) +
                                        "," + std::to_string(numbers[2])
                                  : std::to_string(numbers[2]));
    }
  }
}

TEST(TasksTest, CompletionsFitATinyModel) {
  for (const TaskExample& task : Made(4000, 9)) {
    // One token a character; <think>, </think> are one each.
    EXPECT_LE(task.completion.size() - 7 - 8 + 2, 52u) << task.prompt << task.completion;
    EXPECT_TRUE(task.completion.starts_with("<think>")) << task.completion;
  }
}

TEST(TasksTest, ASeedDecidesEverything) {
  const auto once = Made(200, 3), again = Made(200, 3), other = Made(200, 4);
  size_t same = 0;
  for (size_t i = 0; i < once.size(); ++i) {
    EXPECT_EQ(once[i].prompt, again[i].prompt);
    EXPECT_EQ(once[i].completion, again[i].completion);
    same += once[i].prompt == other[i].prompt;
  }
  EXPECT_LT(same, 5u);
}

TEST(TasksTest, SharesAreEqualAndPromptsDiffer) {
  const auto tasks = Made(1002, 8);
  ASSERT_EQ(tasks.size(), 1002u);
  std::map<std::string, int> counts;
  std::set<std::string> prompts;
  for (const TaskExample& task : tasks) {
    ++counts[task.kind];
    prompts.insert(task.prompt);
  }
  EXPECT_EQ(prompts.size(), tasks.size());
  for (const auto& [kind, count] : counts) EXPECT_NEAR(count, 250.5, 0.51) << kind;
}

TEST(TasksTest, HeldOutPromptsStayOut) {
  std::vector<std::string> held_out;
  for (const TaskExample& task : Made(2000, 1)) held_out.push_back(task.prompt);
  std::sort(held_out.begin(), held_out.end());
  for (const TaskExample& task : Made(8000, 2, {}, held_out)) {
    ASSERT_FALSE(std::binary_search(held_out.begin(), held_out.end(), task.prompt)) << task.prompt;
  }
}

TEST(TasksTest, WhatCannotBeIsRefused) {
  const auto message = [](const std::vector<std::string>& kinds, size_t count,
                          const Teacher& teacher, const std::vector<std::string>& exclude) {
    return MakeTasks(kinds, count, 1, teacher, exclude).status().ToString();
  };
  EXPECT_THAT(message({"poetry"}, 1, {}, {}),
              HasSubstr("INVALID_ARGUMENT: kinds: unknown kind 'poetry'"));
  EXPECT_THAT(message({}, 1, {}, {}), HasSubstr("kinds: empty"));
  EXPECT_THAT(message({"sorting", "sorting"}, 1, {}, {}), HasSubstr("twice"));
  EXPECT_THAT(message({"equation"}, 1000000, {}, {}), HasSubstr("count"));
  EXPECT_THAT(message({"sorting"}, 1, {.forget = 1.5}, {}), HasSubstr("teacher"));
  EXPECT_THAT(message({"sorting"}, 1, {}, {"b", "a"}), HasSubstr("exclude"));
  // Every equation asked for: the search finds them all, and not one more.
  const auto every = MakeTasks({"equation"}, 17130, 1, {}, {});
  ASSERT_TRUE(every.ok()) << every.status();
  std::vector<std::string> used;
  for (const TaskExample& task : *every) used.push_back(task.prompt);
  std::sort(used.begin(), used.end());
  EXPECT_THAT(message({"equation"}, 1, {}, used), HasSubstr("count"));
}

}  // namespace
}  // namespace tramontane
