#include "data/task_procedures.h"

#include <algorithm>
#include <utility>

namespace tramontane {
namespace {

std::string Padded(int number, size_t width) {
  std::string digits = std::to_string(number);
  return digits.size() < width ? std::string(width - digits.size(), '0') + digits : digits;
}

int Digit(char c) { return c - '0'; }

// One step "x±y±carry=cd;": result = 10·carry_out + digit.
std::string ColumnStep(char operation, int x, int y, int carry, int result) {
  const std::string sign(1, operation);
  return std::to_string(x) + sign + std::to_string(y) + sign + std::to_string(carry) + "=" +
         Padded(result, 2) + ";";
}

}  // namespace

WorkedSolution SolveAddition(int a, int b, const Teacher& teacher, Random& random) {
  const size_t width = std::max(std::to_string(a).size(), std::to_string(b).size());
  const std::string x = Padded(a, width), y = Padded(b, width);
  WorkedSolution out;
  int carry = 0, sum = 0, place = 1;
  for (size_t i = width; i-- > 0; place *= 10) {
    if (carry > 0 && random.Chance(teacher.forget)) carry = 0;
    int result = Digit(x[i]) + Digit(y[i]) + carry;
    if (random.Chance(teacher.slip)) result = random.Between(0, 19);
    out.thoughts += ColumnStep('+', Digit(x[i]), Digit(y[i]), carry, result);
    sum += place * (result % 10);
    carry = result / 10;
  }
  out.answer = std::to_string(sum + place * carry);
  return out;
}

WorkedSolution SolveComparison(const std::array<int, 3>& numbers, const Teacher& teacher,
                               Random& random) {
  constexpr size_t kWidth = 3;
  constexpr char kSigns[] = "<=>";
  WorkedSolution out;
  int best = numbers[0];
  for (size_t n = 1; n < numbers.size(); ++n) {
    const std::string x = Padded(best, kWidth), y = Padded(numbers[n], kWidth);
    out.thoughts += x + ":" + y + "=";
    char state = '=';
    for (size_t i = 0; i < kWidth; ++i) {
      if (state != '=' && random.Chance(teacher.forget)) state = '=';
      if (state == '=') state = x[i] < y[i] ? '<' : x[i] > y[i] ? '>' : '=';
      if (random.Chance(teacher.slip)) state = kSigns[random.Below(3)];
      out.thoughts += state;
    }
    out.thoughts += ';';
    if (state == '<') best = numbers[n];
  }
  out.answer = std::to_string(best);
  return out;
}

WorkedSolution SolveSorting(const std::array<int, 3>& numbers, const Teacher& teacher,
                            Random& random) {
  WorkedSolution out;
  std::array<int, 3> list = numbers;
  for (const size_t place : {0, 1, 0}) {
    int& left = list[place];
    int& right = list[place + 1];
    bool swap = left > right;
    if (random.Chance(teacher.slip)) swap = !swap;
    out.thoughts += Padded(left, 2) + (swap ? '>' : '<') + Padded(right, 2) + ";";
    if (swap && !random.Chance(teacher.forget)) std::swap(left, right);
  }
  for (const int number : list)
    out.answer += (out.answer.empty() ? "" : ",") + std::to_string(number);
  return out;
}

WorkedSolution SolveEquation(const Equation& equation, const Teacher& teacher, Random& random) {
  constexpr size_t kWidth = 2;
  const std::string x = Padded(equation.total, kWidth), y = Padded(equation.addend, kWidth);
  WorkedSolution out;
  std::string difference(kWidth, '0');
  int borrow = 0;
  for (size_t i = kWidth; i-- > 0;) {
    if (borrow > 0 && random.Chance(teacher.forget)) borrow = 0;
    const int left = Digit(x[i]) - Digit(y[i]) - borrow;
    int result = left < 0 ? 10 + (left + 10) : left;  // borrow digit, then difference digit
    if (random.Chance(teacher.slip)) result = random.Between(0, 19);
    out.thoughts += ColumnStep('-', Digit(x[i]), Digit(y[i]), borrow, result);
    difference[i] = static_cast<char>('0' + result % 10);
    borrow = result / 10;
  }
  int remainder = 0, quotient = 0;
  for (const char digit : difference) {
    if (remainder > 0 && random.Chance(teacher.forget)) remainder = 0;
    const int value = 10 * remainder + Digit(digit);
    int q = value / equation.factor, r = value % equation.factor;
    if (random.Chance(teacher.slip)) {
      q = random.Between(0, 9);
      r = random.Between(0, equation.factor - 1);
    }
    out.thoughts += Padded(value, kWidth) + "/" + std::to_string(equation.factor) + "=" +
                    std::to_string(q) + "r" + std::to_string(r) + ";";
    quotient = 10 * quotient + q;
    remainder = r;
  }
  out.answer = std::to_string(quotient);
  return out;
}

}  // namespace tramontane
