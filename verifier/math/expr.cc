#include "verifier/math/expr.h"

#include <algorithm>
#include <utility>

namespace tramontane::math {
namespace {

ExprPtr Flat(Kind kind, ExprPtr a, ExprPtr b) {
  Exprs args;
  for (ExprPtr* side : {&a, &b}) {
    if ((*side)->kind == kind) {
      args.insert(args.end(), (*side)->args.begin(), (*side)->args.end());
    } else {
      args.push_back(std::move(*side));
    }
  }
  return Make(kind, std::move(args));
}

bool Commutes(Kind kind) {
  return kind == Kind::kSum || kind == Kind::kProduct || kind == Kind::kSet ||
         kind == Kind::kUnion || kind == Kind::kIntersect;
}

}  // namespace

ExprPtr Number(mpq_class value, bool decimal) {
  auto e = std::make_shared<Expr>();
  e->kind = Kind::kNumber;
  e->value = std::move(value);
  e->decimal = decimal;
  return e;
}

ExprPtr Named(Kind kind, std::string name) { return Make(kind, {}, std::move(name)); }

ExprPtr Make(Kind kind, Exprs args, std::string name) {
  auto e = std::make_shared<Expr>();
  e->kind = kind;
  e->args = std::move(args);
  e->name = std::move(name);
  return e;
}

ExprPtr Sum(ExprPtr a, ExprPtr b) { return Flat(Kind::kSum, std::move(a), std::move(b)); }
ExprPtr Product(ExprPtr a, ExprPtr b) { return Flat(Kind::kProduct, std::move(a), std::move(b)); }

ExprPtr Negative(ExprPtr a) {
  if (a->kind == Kind::kNumber) return Number(-a->value, a->decimal);
  return Product(Number(-1), std::move(a));
}

ExprPtr Difference(ExprPtr a, ExprPtr b) { return Sum(std::move(a), Negative(std::move(b))); }

ExprPtr Quotient(ExprPtr a, ExprPtr b) {
  if (IsInteger(*a) && IsInteger(*b) && b->value != 0) return Number(a->value / b->value);
  return Product(std::move(a), Make(Kind::kPower, {std::move(b), Number(-1)}));
}

ExprPtr IntervalOf(ExprPtr lower, ExprPtr upper, bool left_open, bool right_open) {
  auto e = std::make_shared<Expr>();
  e->kind = Kind::kInterval;
  e->args = {std::move(lower), std::move(upper)};
  e->left_open = left_open;
  e->right_open = right_open;
  return e;
}

bool IsInteger(const Expr& e) {
  return e.kind == Kind::kNumber && !e.decimal && e.value.get_den() == 1;
}

bool IsSetLike(const Expr& e) {
  return e.kind == Kind::kSet || e.kind == Kind::kInterval || e.kind == Kind::kUnion ||
         e.kind == Kind::kIntersect || e.kind == Kind::kDifference || e.kind == Kind::kNamedSet;
}

bool IsRelation(const Expr& e) { return e.kind == Kind::kRelation || e.kind == Kind::kChain; }

bool IsEquation(const Expr& e) {
  if (e.kind == Kind::kRelation) return e.name == "=";
  return e.kind == Kind::kChain && std::all_of(e.args.begin(), e.args.end(), [](const ExprPtr& r) {
           return r->name == "=";
         });
}

bool IsOnlySymbols(const Expr& e) {
  if (e.kind == Kind::kSymbol) return true;
  if (e.kind == Kind::kPower) return e.args[1]->value == -1 && IsOnlySymbols(*e.args[0]);
  if (e.args.empty()) return false;
  return std::all_of(e.args.begin(), e.args.end(),
                     [](const ExprPtr& arg) { return IsOnlySymbols(*arg); });
}

bool HasSymbol(const Expr& e) {
  return e.kind == Kind::kSymbol || std::any_of(e.args.begin(), e.args.end(), [](const ExprPtr& arg) {
           return HasSymbol(*arg);
         });
}

void CollectSymbols(const Expr& e, std::set<std::string>& names) {
  if (e.kind == Kind::kSymbol) names.insert(e.name);
  for (const ExprPtr& arg : e.args) CollectSymbols(*arg, names);
}

std::string Key(const Expr& e) {
  if (e.kind == Kind::kNumber) return e.value.get_str();
  if (e.kind == Kind::kSymbol) return "$" + e.name;
  std::string key = std::to_string(static_cast<int>(e.kind)) + e.name;
  if (e.kind == Kind::kInterval) key += e.left_open ? (e.right_open ? "oo" : "oc") : e.right_open ? "co" : "cc";
  if (e.kind == Kind::kMatrix) key += std::to_string(e.columns);
  std::vector<std::string> parts;
  parts.reserve(e.args.size());
  for (const ExprPtr& arg : e.args) parts.push_back(Key(*arg));
  if (Commutes(e.kind)) std::sort(parts.begin(), parts.end());
  if (e.kind == Kind::kSet) parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  key += '(';
  for (const std::string& part : parts) key += part + ",";
  return key + ')';
}

}  // namespace tramontane::math
