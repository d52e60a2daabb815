#include "verifier/math/regions.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "verifier/math/probe.h"

namespace tramontane::math {
namespace {

constexpr size_t kMaxEnds = 64;

struct End {
  double value;
  ExprPtr exact;
};

bool Near(double a, double b) {
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return std::fabs(a - b) <= 5e-7 * std::max({1.0, std::fabs(a), std::fabs(b)});
}

// The finite and infinite ends of all parts. False when one is no real number.
bool CollectEnds(const Expr& set, Budget& budget, std::vector<End>& ends) {
  switch (set.kind) {
    case Kind::kSet:
    case Kind::kInterval:
      for (const ExprPtr& arg : set.args) {
        const std::optional<double> value = RealValue(*arg, budget);
        if (!value || ends.size() >= kMaxEnds) return false;
        ends.push_back({*value, arg});
      }
      return true;
    case Kind::kUnion:
    case Kind::kIntersect:
    case Kind::kDifference:
      return std::all_of(set.args.begin(), set.args.end(),
                         [&](const ExprPtr& part) { return CollectEnds(*part, budget, ends); });
    default:
      return false;
  }
}

// CollectEnds() has accepted the set, so every end has a value.
bool Includes(const Expr& set, double x, Budget& budget) {
  const auto value = [&](size_t i) { return RealValue(*set.args[i], budget).value_or(NAN); };
  switch (set.kind) {
    case Kind::kSet:
      for (size_t i = 0; i < set.args.size(); ++i) {
        if (Near(value(i), x)) return true;
      }
      return false;
    case Kind::kInterval: {
      const double lower = value(0), upper = value(1);
      if (Near(lower, x)) return !set.left_open && (!Near(upper, x) || !set.right_open);
      if (Near(upper, x)) return !set.right_open;
      return lower < x && x < upper;
    }
    case Kind::kUnion:
      return Includes(*set.args[0], x, budget) || Includes(*set.args[1], x, budget);
    case Kind::kIntersect:
      return Includes(*set.args[0], x, budget) && Includes(*set.args[1], x, budget);
    case Kind::kDifference:
      return Includes(*set.args[0], x, budget) && !Includes(*set.args[1], x, budget);
    default:
      return false;
  }
}

// The ends in order, each once, and a point in every gap between and beside them.
std::vector<End> TestPoints(std::vector<End> ends) {
  std::erase_if(ends, [](const End& end) { return std::isinf(end.value); });
  std::sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.value < b.value; });
  ends.erase(std::unique(ends.begin(), ends.end(),
                         [](const End& a, const End& b) { return Near(a.value, b.value); }),
             ends.end());
  const auto at = [](double x) { return End{x, Number(mpq_class(x))}; };
  std::vector<End> points;
  if (ends.empty()) return {at(-1.5), at(0), at(1.25)};
  points.push_back(at(std::floor(ends.front().value) - 1));
  for (size_t i = 0; i < ends.size(); ++i) {
    points.push_back(ends[i]);
    if (i + 1 < ends.size()) points.push_back(at((ends[i].value + ends[i + 1].value) / 2));
  }
  points.push_back(at(std::ceil(ends.back().value) + 1));
  return points;
}

std::optional<bool> Holds(const Expr& relation, const std::string& name, const ExprPtr& x,
                          Budget& budget) {
  if (relation.kind == Kind::kChain) {
    for (const ExprPtr& part : relation.args) {
      const std::optional<bool> holds = Holds(*part, name, x, budget);
      if (!holds || !*holds) return holds;
    }
    return true;
  }
  const ExprPtr difference =
      Difference(Substitute(relation.args[0], name, x), Substitute(relation.args[1], name, x));
  const std::optional<int> sign = Sign(*difference, budget);
  if (!sign) return false;  // no real value: x is not in the domain
  if (relation.name == "<") return *sign < 0;
  if (relation.name == "<=") return *sign <= 0;
  if (relation.name == ">") return *sign > 0;
  if (relation.name == ">=") return *sign >= 0;
  if (relation.name == "!=") return *sign != 0;
  if (relation.name == "=") return *sign == 0;
  return std::nullopt;
}

// Unknown functions become symbols: 0 < f(x) < 1 is a statement about f(x).
ExprPtr WithoutCalls(const ExprPtr& e) {
  if (e->kind == Kind::kCall && e->args.size() == 1 && e->name.size() == 1) {
    return Named(Kind::kSymbol, Key(*e));
  }
  if (e->args.empty()) return e;
  auto copy = std::make_shared<Expr>(*e);
  for (ExprPtr& arg : copy->args) arg = WithoutCalls(arg);
  return copy;
}

}  // namespace

std::optional<bool> SameRegion(const Expr& a, const Expr& b, Budget& budget) {
  std::vector<End> ends;
  if (!CollectEnds(a, budget, ends) || !CollectEnds(b, budget, ends)) return std::nullopt;
  for (const End& point : TestPoints(std::move(ends))) {
    if (Includes(a, point.value, budget) != Includes(b, point.value, budget)) return false;
  }
  if (budget.spent()) return std::nullopt;
  return true;
}

std::optional<bool> SameSolutions(const ExprPtr& relation, const Expr& set, Budget& budget) {
  const ExprPtr plain = WithoutCalls(relation);
  std::set<std::string> symbols;
  CollectSymbols(*plain, symbols);
  std::vector<End> ends;
  if (symbols.size() != 1 || !CollectEnds(set, budget, ends)) return std::nullopt;
  std::vector<End> points = TestPoints(std::move(ends));
  // The relation may change where the set does not: look at some other places.
  const double span = std::fabs(points.front().value) + std::fabs(points.back().value) + 4;
  for (int i = -20; i <= 20; ++i) {
    const double x = span * (i + 0.1234) / 10;
    points.push_back({x, Number(mpq_class(x))});
  }
  for (const End& point : points) {
    const std::optional<bool> holds = Holds(*plain, *symbols.begin(), point.exact, budget);
    if (!holds) return std::nullopt;
    if (*holds != Includes(set, point.value, budget)) return false;
  }
  if (budget.spent()) return std::nullopt;
  return true;
}

}  // namespace tramontane::math
