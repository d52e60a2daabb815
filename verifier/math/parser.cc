#include "verifier/math/parser.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "verifier/math/scalar_parser.h"

namespace tramontane::math {
namespace {

// Elements between semicolons, and within them between commas.
using Groups = std::vector<Exprs>;

bool IsAssignment(const Expr& e) {
  return e.kind == Kind::kRelation && e.name == "=" && IsOnlySymbols(*e.args[0]);
}

ExprPtr Relation(const std::string& sign, ExprPtr left, ExprPtr right) {
  return Make(Kind::kRelation, {std::move(left), std::move(right)}, sign);
}

class Parser final : public ScalarParser {
 public:
  using ScalarParser::ScalarParser;

  ExprPtr Whole() {
    std::optional<Groups> groups = List();
    if (!groups || !in_.AtEnd()) return nullptr;
    return TopLevel(*groups);
  }

 private:
  // x = 1, 2 means x = {1, 2}, but x = 1, y = 2 are two equations.
  static ExprPtr TopLevel(const Groups& groups) {
    if (groups.size() == 1 && groups[0].size() == 1) return groups[0][0];
    const ExprPtr& first = groups[0][0];
    if (IsAssignment(*first)) {
      bool others_are_values = true;
      for (const Exprs& group : groups) {
        for (const ExprPtr& e : group) others_are_values &= e == first || !IsRelation(*e);
      }
      if (others_are_values) {
        Groups values = groups;
        values[0][0] = first->args[1];
        return Relation("=", first->args[0], Collect(values));
      }
    }
    return Collect(groups);
  }

  static ExprPtr Collect(const Groups& groups) {
    if (groups.size() == 1) return Make(Kind::kSet, groups[0]);
    const bool plain = std::all_of(groups.begin(), groups.end(),
                                   [](const Exprs& group) { return group.size() == 1; });
    Exprs elements;
    for (const Exprs& group : groups) {
      elements.push_back(plain ? group[0] : Make(Kind::kTuple, group));
    }
    return Make(Kind::kSet, std::move(elements));
  }

  std::optional<Groups> List() {
    Groups groups(1);
    while (true) {
      ExprPtr element = Element();
      if (!element) return std::nullopt;
      groups.back().push_back(std::move(element));
      if (in_.TakeSign(";")) {
        groups.emplace_back();
      } else if (!in_.TakeSign(",")) {
        return groups;
      }
    }
  }

  // One set, expression, relation or chain of relations.
  ExprPtr Element() {
    ExprPtr left = SetDifference();
    if (!left) return nullptr;
    Exprs relations;
    while (true) {
      const std::string sign = RelationSign();
      if (sign.empty()) break;
      ExprPtr right = SetDifference();
      if (!right) return nullptr;
      if (sign == "~") {
        // Of x ≈ 3 the value, of x = 1/3 ≈ 0.33 what is exact.
        if (relations.empty() && IsOnlySymbols(*left)) left = std::move(right);
        continue;
      }
      relations.push_back(Relation(sign, std::move(left), right));
      left = std::move(right);
    }
    if (relations.empty()) return left;
    if (relations.size() == 1) return relations[0];
    return Make(Kind::kChain, std::move(relations));
  }

  std::string RelationSign() {
    for (const char* sign : {"=", "<", "<=", ">", ">=", "!=", "~"}) {
      if (in_.TakeSign(sign)) return sign;
    }
    if (in_.TakeCommand("in")) return "=";
    if (in_.TakeCommand("notin")) return "notin";
    return "";
  }

  ExprPtr SetDifference() {
    ExprPtr left = Union();
    while (left && in_.TakeCommand("setminus")) {
      ExprPtr right = Union();
      left = right ? Make(Kind::kDifference, {AsSet(left), AsSet(right)}) : nullptr;
    }
    return left;
  }

  ExprPtr Union() {
    ExprPtr left = Intersection();
    while (left && in_.TakeCommand("cup")) {
      ExprPtr right = Intersection();
      left = right ? Make(Kind::kUnion, {AsSet(left), AsSet(right)}) : nullptr;
    }
    return left;
  }

  ExprPtr Intersection() {
    ExprPtr left = Additive();
    while (left && in_.TakeCommand("cap")) {
      ExprPtr right = Additive();
      left = right ? Make(Kind::kIntersect, {AsSet(left), AsSet(right)}) : nullptr;
    }
    return left;
  }

  static ExprPtr AsSet(const ExprPtr& e) {
    if (e->kind == Kind::kTuple) return Make(Kind::kSet, e->args);
    if (IsSetLike(*e) || e->kind == Kind::kSymbol) return e;
    return Make(Kind::kSet, {e});
  }

  ExprPtr Bracketed(const std::string& open) override {
    if (++depth_ > kMaxDepth) return nullptr;
    in_.Skip();
    const bool braces = open == "{" || open == "\\{";
    if (braces && in_.TakeSign(open == "{" ? "}" : "\\}")) {
      --depth_;
      return Make(Kind::kSet, {});
    }
    const std::optional<Groups> groups = List();
    if (!groups) return nullptr;
    ExprPtr inside = braces ? Braced(open, *groups) : Round(open, *groups);
    --depth_;
    return inside;
  }

  ExprPtr Braced(const std::string& open, const Groups& groups) {
    if (!in_.TakeSign(open == "{" ? "}" : "\\}")) return nullptr;
    Exprs elements;
    for (const Exprs& group : groups) elements.insert(elements.end(), group.begin(), group.end());
    // A LaTeX group of one thing is that thing; {x} and \{x\} are compared as equals anyhow.
    if (elements.size() == 1 && (open == "{" || !StartsAlone(*elements[0]))) return elements[0];
    return Make(Kind::kSet, std::move(elements));
  }

  // \{x + 1\}^2 is a group of an expression, \{5\} a set.
  bool StartsAlone(const Expr& e) const {
    if (IsSetLike(e)) return true;
    return !in_.IsSign("^") && !in_.IsSign("*") && !in_.IsSign("/") && !in_.IsSign("+") &&
           !in_.IsSign("-");
  }

  ExprPtr Round(const std::string& open, const Groups& groups) {
    const bool square_end = in_.IsSign("]");
    if (!in_.TakeSign(")") && !in_.TakeSign("]")) return nullptr;
    const bool square_start = open == "[";
    if (groups.size() == 1 && groups[0].size() == 1) {
      return square_start == square_end ? groups[0][0] : nullptr;
    }
    if (groups.size() == 1 && groups[0].size() == 2 && !IsRelation(*groups[0][0]) &&
        !IsRelation(*groups[0][1])) {
      const Expr& lower = *groups[0][0];
      if (!IsSetLike(lower) && lower.kind != Kind::kTuple) {
        return IntervalOf(groups[0][0], groups[0][1], !square_start, !square_end);
      }
    }
    if (square_start != square_end) return nullptr;
    Exprs elements;
    for (const Exprs& group : groups) elements.insert(elements.end(), group.begin(), group.end());
    return Make(Kind::kTuple, std::move(elements));
  }
};

// Both readings of ± side by side.
ExprPtr Merge(const ExprPtr& plus, const ExprPtr& minus) {
  if (Key(*plus) == Key(*minus)) return plus;
  if (plus->kind == Kind::kSet && minus->kind == Kind::kSet) {
    Exprs elements = minus->args;
    elements.insert(elements.end(), plus->args.begin(), plus->args.end());
    return Make(Kind::kSet, std::move(elements));
  }
  if (IsAssignment(*plus) && IsAssignment(*minus) &&
      Key(*plus->args[0]) == Key(*minus->args[0])) {
    return Relation("=", plus->args[0], Merge(plus->args[1], minus->args[1]));
  }
  return Make(Kind::kSet, {minus, plus});
}

}  // namespace

ExprPtr Parse(const std::vector<Token>& tokens) {
  if (tokens.empty()) return nullptr;
  Parser parser(tokens, /*minus=*/false);
  ExprPtr plus = parser.Whole();
  if (!plus || !parser.saw_plus_minus()) return plus;
  ExprPtr minus = Parser(tokens, /*minus=*/true).Whole();
  return minus ? Merge(plus, minus) : nullptr;
}

}  // namespace tramontane::math
