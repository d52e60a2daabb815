// The tree that a mathematical answer is read into: numbers, expressions, relations, sets, tuples,
// intervals and matrices. Immutable and shared; parsers bound its depth by kMaxDepth.
#pragma once

#include <gmpxx.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace tramontane::math {

inline constexpr int kMaxDepth = 120;

enum class Kind {
  kNumber,      // value; `decimal` when it was written with a decimal point or an exponent
  kSymbol,      // name
  kConstant,    // name: pi, e, i, infinity
  kSum,         // args
  kProduct,     // args
  kPower,       // base, exponent
  kPercent,     // one argument, divided by a hundred
  kCall,        // name(args): sin, log (argument, base), factorial, f, …
  kMatrix,      // args row by row, `columns` of them in a row
  kSet,         // elements as written, duplicates included
  kTuple,       // elements
  kInterval,    // lower, upper; left_open, right_open
  kUnion,       // two sets
  kIntersect,   // two sets
  kDifference,  // two sets
  kNamedSet,    // name: N, Z, Q, C, P (R is an interval)
  kRelation,    // name: = < <= > >= !=; left, right
  kChain,       // relations that share their sides: a < b < c
};

struct Expr;
using ExprPtr = std::shared_ptr<const Expr>;
using Exprs = std::vector<ExprPtr>;

struct Expr {
  Kind kind = Kind::kNumber;
  std::string name;
  mpq_class value;
  bool decimal = false;
  bool left_open = false, right_open = false;
  size_t columns = 0;
  Exprs args;
};

ExprPtr Number(mpq_class value, bool decimal = false);
ExprPtr Named(Kind kind, std::string name);
ExprPtr Make(Kind kind, Exprs args, std::string name = "");
// Sums and products are flattened, so that a + (b + c) and (a + b) + c are one tree.
ExprPtr Sum(ExprPtr a, ExprPtr b);
ExprPtr Product(ExprPtr a, ExprPtr b);
ExprPtr Negative(ExprPtr a);  // of a number: a number
ExprPtr Difference(ExprPtr a, ExprPtr b);
// Of two integers: a number, unless the divisor is zero.
ExprPtr Quotient(ExprPtr a, ExprPtr b);
ExprPtr IntervalOf(ExprPtr lower, ExprPtr upper, bool left_open, bool right_open);

bool IsInteger(const Expr& e);
bool IsSetLike(const Expr& e);    // a set, an interval or an operation on them; not a tuple
bool IsRelation(const Expr& e);   // a relation or a chain
bool IsEquation(const Expr& e);   // = alone, or a chain of nothing but =
bool IsOnlySymbols(const Expr& e);  // no number anywhere: f(x), AB, A/S
bool HasSymbol(const Expr& e);
void CollectSymbols(const Expr& e, std::set<std::string>& names);

// One text for equal trees, whatever the order of summands, factors and set elements. Names are in
// lower case already (the parser's work).
std::string Key(const Expr& e);

}  // namespace tramontane::math
