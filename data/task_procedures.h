// The worked solutions of the made tasks: each is a digit-by-digit procedure with one piece of
// state carried from step to step, which the careless teacher may drop (forget) or get wrong
// (slip). The answer follows from the steps as written. Pure functions of their arguments.
//
//   addition    123+45=        3+5+0=08;2+4+0=06;1+0+0=01;        x+y+carry=carry,digit; units
//   first comparison  max(12,345,7)= 012:345=<<<;345:007=>>>;           one sign a digit, highest
//   first:
//                                                                 once decided it stays
//   sorting     sort(31,7,22)= 31>07;31>22;07<22;                 places 1,2 then 2,3 then 1,2;
//                                                                 ">" swaps
//   equation    3x+4=19;x=     9-4-0=05;1-0-0=01;01/3=0r1;15/3=5r0;  subtract, then divide with
//                                                                 the remainder carried
#pragma once

#include <array>
#include <string>

#include "data/random.h"
#include "data/tasks.h"

namespace tramontane {

struct WorkedSolution {
  std::string thoughts;
  std::string answer;
};

struct Equation {  // factor·x + addend = total
  int factor = 0;  // 2 … 5
  int addend = 0;  // 1 … 97
  int total = 0;   // at most 99
};

WorkedSolution SolveAddition(int a, int b, const Teacher& teacher, Random& random);
WorkedSolution SolveComparison(const std::array<int, 3>& numbers, const Teacher& teacher,
                               Random& random);
WorkedSolution SolveSorting(const std::array<int, 3>& numbers, const Teacher& teacher,
                            Random& random);
WorkedSolution SolveEquation(const Equation& equation, const Teacher& teacher, Random& random);

}  // namespace tramontane
