#include "data/tasks.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "common/status.h"
#include "data/random.h"
#include "data/task_procedures.h"

namespace tramontane {
namespace {

struct Problem {
  std::string prompt;
  std::string answer;
  std::array<int, 3> numbers;  // what the kind's solver needs
};

// Uniform in the number of digits first, so that short numbers are not rare.
int Number(Random& random, int min_digits, int max_digits) {
  static constexpr int kPowers[] = {0, 10, 100, 1000};
  const int digits = random.Between(min_digits, max_digits);
  return random.Between(kPowers[digits - 1], kPowers[digits] - 1);
}

Problem MakeAddition(Random& random) {
  const int a = Number(random, 2, 3), b = Number(random, 2, 3);
  return {std::to_string(a) + "+" + std::to_string(b) + "=", std::to_string(a + b), {a, b, 0}};
}

// Different numbers, so that every comparison has one right sign.
std::array<int, 3> Distinct(Random& random, int min_digits, int max_digits) {
  std::array<int, 3> numbers;
  do {
    for (int& number : numbers) number = Number(random, min_digits, max_digits);
  } while (numbers[0] == numbers[1] || numbers[1] == numbers[2] || numbers[0] == numbers[2]);
  return numbers;
}

std::string Listed(const std::array<int, 3>& numbers) {
  return std::to_string(numbers[0]) + "," + std::to_string(numbers[1]) + "," +
         std::to_string(numbers[2]);
}

Problem MakeComparison(Random& random) {
  const std::array<int, 3> numbers = Distinct(random, 2, 3);
  return {"max(" + Listed(numbers) + ")=",
          std::to_string(*std::max_element(numbers.begin(), numbers.end())), numbers};
}

Problem MakeSorting(Random& random) {
  const std::array<int, 3> numbers = Distinct(random, 1, 2);
  std::array<int, 3> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  return {"sort(" + Listed(numbers) + ")=", Listed(sorted), numbers};
}

Problem MakeEquation(Random& random) {
  static constexpr char kVariables[] = {'n', 'x', 'y'};
  const int factor = random.Between(2, 5);
  const int x = random.Between(2, 98 / factor);
  const int addend = random.Between(1, 99 - factor * x);
  const int total = factor * x + addend;
  const std::string name(1, kVariables[random.Below(3)]);
  return {std::to_string(factor) + name + "+" + std::to_string(addend) + "=" +
              std::to_string(total) + ";" + name + "=",
          std::to_string(x),
          {factor, addend, total}};
}

using Solver = WorkedSolution (*)(const std::array<int, 3>&, const Teacher&, Random&);

WorkedSolution Add(const std::array<int, 3>& numbers, const Teacher& teacher, Random& random) {
  return SolveAddition(numbers[0], numbers[1], teacher, random);
}

WorkedSolution Solve(const std::array<int, 3>& numbers, const Teacher& teacher, Random& random) {
  const Equation equation = {.factor = numbers[0], .addend = numbers[1], .total = numbers[2]};
  return SolveEquation(equation, teacher, random);
}

struct Kind {
  const char* name;
  Problem (*make)(Random&);
  Solver solve;
  size_t prompts;  // how many different ones there are
};

// 990 numbers of 2 or 3 digits, 100 of 1 or 2; equations: the sum over factors f and solutions x of
// the 99 − f·x addends, times three names.
constexpr size_t CountEquations() {
  size_t count = 0;
  for (int factor = 2; factor <= 5; ++factor) {
    for (int x = 2; x <= 98 / factor; ++x) count += 99 - factor * x;
  }
  return 3 * count;
}
constexpr Kind kKinds[] = {{"addition", MakeAddition, Add, 990 * 990},
                           {"comparison", MakeComparison, SolveComparison, size_t{990} * 989 * 988},
                           {"sorting", MakeSorting, SolveSorting, 100 * 99 * 98},
                           {"equation", MakeEquation, Solve, CountEquations()}};

absl::StatusOr<const Kind*> FindKind(const std::string& name) {
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return &kind;
  }
  std::string known;
  for (const Kind& kind : kKinds) known += (known.empty() ? "" : ", ") + std::string(kind.name);
  return absl::InvalidArgumentError("kinds: unknown kind '" + name + "' (known: " + known + ")");
}

absl::Status MakeKind(const Kind& kind, size_t count, const Teacher& teacher,
                      const std::vector<std::string>& exclude, Random& random,
                      std::vector<TaskExample>* out) {
  const absl::Status too_many = absl::InvalidArgumentError(
      std::string("count: ") + std::to_string(count) + " different prompts of kind " + kind.name +
      " asked for, of " + std::to_string(kind.prompts));
  if (count > kind.prompts) return too_many;
  std::unordered_set<std::string> seen;
  // Drawing with rejection; the bound ends a search for prompts that `exclude` has used up.
  size_t draws = 64 * kind.prompts;
  for (size_t made = 0; made < count;) {
    if (draws-- == 0) return too_many;
    Problem problem = kind.make(random);
    if (std::binary_search(exclude.begin(), exclude.end(), problem.prompt)) continue;
    if (!seen.insert(problem.prompt).second) continue;
    const WorkedSolution solution = kind.solve(problem.numbers, teacher, random);
    out->push_back({kind.name, std::move(problem.prompt), std::move(problem.answer),
                    "<think>" + solution.thoughts + "</think>\\boxed{" + solution.answer + "}"});
    ++made;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TaskExample>> MakeTasks(const std::vector<std::string>& kinds,
                                                   size_t count, uint64_t seed,
                                                   const Teacher& teacher,
                                                   const std::vector<std::string>& exclude) {
  if (kinds.empty()) return absl::InvalidArgumentError("kinds: empty");
  for (const double chance : {teacher.forget, teacher.slip}) {
    if (!(chance >= 0 && chance <= 1)) {
      return absl::InvalidArgumentError("teacher: forget and slip are chances from 0 to 1");
    }
  }
  if (!std::is_sorted(exclude.begin(), exclude.end())) {
    return absl::InvalidArgumentError("exclude: not sorted");
  }
  Random random(seed);
  std::vector<TaskExample> tasks;
  tasks.reserve(count);
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (std::find(kinds.begin(), kinds.begin() + i, kinds[i]) != kinds.begin() + i) {
      return absl::InvalidArgumentError("kinds: '" + kinds[i] + "' is given twice");
    }
    ASSIGN_OR_RETURN(const Kind* kind, FindKind(kinds[i]));
    const size_t share = count / kinds.size() + (i < count % kinds.size() ? 1 : 0);
    RETURN_IF_ERROR(MakeKind(*kind, share, teacher, exclude, random, &tasks));
  }
  for (size_t i = tasks.size(); i > 1; --i) std::swap(tasks[i - 1], tasks[random.Below(i)]);
  return tasks;
}

}  // namespace tramontane
