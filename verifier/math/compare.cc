#include "verifier/math/compare.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "verifier/math/exact.h"
#include "verifier/math/probe.h"
#include "verifier/math/regions.h"
#include "verifier/math/tree_text.h"

namespace tramontane::math {
namespace {

constexpr size_t kMaxElements = 400;  // of a set or tuple

// x = 5, |AB| = 5, (x, y) = (1, 2): a name for what was asked, or a chain that begins with one.
bool BeginsWithAName(const Expr& e) {
  if (!IsEquation(e)) return false;
  const Expr& first = e.kind == Kind::kChain ? *e.args[0] : e;
  return IsOnlySymbols(*first.args[0]);
}

const ExprPtr& LastSide(const ExprPtr& equation) {
  const Expr& last = equation->kind == Kind::kChain ? *equation->args.back() : *equation;
  return last.args[1];
}

// x = 1 + 1 = 2 → x = 2.
ExprPtr WithoutSteps(const ExprPtr& e) {
  if (e->kind != Kind::kChain || !BeginsWithAName(*e)) return e;
  return Make(Kind::kRelation, {e->args[0]->args[0], LastSide(e)}, "=");
}

// Ends in no order make a pair: (3, 1). [2, 2] is the set of 2.
ExprPtr Settled(const ExprPtr& e, Budget& budget) {
  if (e->kind != Kind::kInterval) return e;
  const std::optional<double> lower = RealValue(*e->args[0], budget);
  const std::optional<double> upper = RealValue(*e->args[1], budget);
  if (!lower || !upper || *lower < *upper) return e;
  if (*lower == *upper && !e->left_open && !e->right_open) return Make(Kind::kSet, {e->args[0]});
  return Make(Kind::kTuple, e->args);
}

bool IsCollection(const Expr& e) { return IsSetLike(e) || e.kind == Kind::kTuple; }

const Expr* AtomOf(const Expr& e) {
  if (e.kind == Kind::kNumber) return &e;
  return e.kind == Kind::kPercent && e.args[0]->kind == Kind::kNumber ? e.args[0].get() : nullptr;
}

// The letters of a word that was written as a product: o·d·d.
std::optional<std::string> Spelled(const Expr& e) {
  if (e.kind == Kind::kSymbol) return e.name;
  if (e.kind == Kind::kConstant && (e.name == "e" || e.name == "i")) return e.name;
  if (e.kind != Kind::kProduct) return std::nullopt;
  std::string word;
  for (const ExprPtr& factor : e.args) {
    const std::optional<std::string> letters =
        factor->kind == Kind::kProduct ? std::nullopt : Spelled(*factor);
    if (!letters) return std::nullopt;
    word += *letters;
  }
  return word;
}

class Comparison {
 public:
  Comparison(const AnswerOptions& options, Budget& budget) : options_(options), budget_(budget) {}

  bool Same(ExprPtr gold, ExprPtr answer) {
    if (!budget_.Spend(1)) return false;
    gold = Settled(WithoutSteps(gold), budget_);
    answer = Settled(WithoutSteps(answer), budget_);
    if (IsEquation(*answer) && !IsEquation(*gold)) {
      answer = Settled(LastSide(answer), budget_);
    } else if (BeginsWithAName(*gold) && !IsEquation(*answer)) {
      gold = Settled(LastSide(gold), budget_);
    }
    if (Key(*gold) == Key(*answer)) return true;
    if (IsRelation(*gold) && IsSetLike(*answer)) {
      return SameSolutions(gold, *answer, budget_).value_or(false);
    }
    if (IsRelation(*gold) && IsRelation(*answer)) return SameRelations(*gold, *answer);
    if (IsRelation(*gold) || IsRelation(*answer)) return false;
    if (IsCollection(*gold) || IsCollection(*answer)) return SameCollections(gold, answer);
    if (gold->kind == Kind::kMatrix || answer->kind == Kind::kMatrix) {
      return SameMatrices(*gold, *answer);
    }
    if (gold->kind == Kind::kSymbol || answer->kind == Kind::kSymbol) {
      return SameNames(*gold, *answer);
    }
    return SameScalars(*gold, *answer);
  }

 private:
  bool SameNames(const Expr& gold, const Expr& answer) {
    const std::optional<std::string> a = Spelled(gold), b = Spelled(answer);
    if (a && b) return *a == *b;
    // \text{13} and 13.
    const Expr& name = gold.kind == Kind::kSymbol ? gold : answer;
    const Expr& other = gold.kind == Kind::kSymbol ? answer : gold;
    if (other.kind == Kind::kNumber) return other.value.get_str() == name.name;
    return SameScalars(gold, answer);
  }

  bool SameScalars(const Expr& gold, const Expr& answer) {
    const Expr* a = AtomOf(gold);
    const Expr* b = AtomOf(answer);
    const auto written_whole = [](const Expr& e) { return IsInteger(e) && !e.decimal; };
    if (a == &gold && b == &answer && (written_whole(gold) || written_whole(answer))) {
      return gold.value == answer.value;  // no rounding makes 2.0000001 of 2
    }
    if ((a != nullptr && a->decimal) || (b != nullptr && b->decimal)) {
      const auto x = RoundedValue(gold, options_.decimals, budget_);
      const auto y = RoundedValue(answer, options_.decimals, budget_);
      if (x && y) return *x == *y;
    } else if (a != nullptr && b != nullptr && IsInteger(*a) && IsInteger(*b)) {
      if (a->value == b->value) return true;  // 50% is taken for 50
      if (gold.kind == answer.kind) return false;
    }
    return SameValues(gold, answer);
  }

  bool SameValues(const Expr& gold, const Expr& answer) {
    const Sameness sameness = CompareValues(gold, answer, budget_);
    if (sameness == Sameness::kSame) return true;
    const bool symbolic = HasSymbol(gold) || HasSymbol(answer);
    const bool asks = sameness == Sameness::kUnknown || (options_.doubts_difference && symbolic);
    return asks && SecondOpinionOn(gold, answer);
  }

  bool SecondOpinionOn(const Expr& gold, const Expr& answer) {
    if (!options_.opinion || opinions_left_ == 0) return false;
    const std::optional<std::string> a = ExprText(gold), b = ExprText(answer);
    if (!a || !b) return false;
    --opinions_left_;
    return options_.opinion(*a, *b).value_or(false);
  }

  bool SameMatrices(const Expr& gold, const Expr& answer) {
    const ExprPtr a = Computed(gold), b = Computed(answer);
    if (!a || !b || a->columns != b->columns || a->args.size() != b->args.size()) return false;
    for (size_t i = 0; i < a->args.size(); ++i) {
      if (!SameScalars(*a->args[i], *b->args[i])) return false;
    }
    return true;
  }

  // Sums and products of matrices as one matrix; null when there is none.
  ExprPtr Computed(const Expr& e) {
    if (e.kind == Kind::kMatrix) return std::make_shared<Expr>(e);
    if (e.kind != Kind::kSum && e.kind != Kind::kProduct) return nullptr;
    ExprPtr out, factor;
    for (const ExprPtr& arg : e.args) {
      ExprPtr matrix = Computed(*arg);
      if (!matrix && e.kind == Kind::kProduct) {
        factor = factor ? Product(factor, arg) : arg;
        continue;
      }
      if (!matrix || !budget_.Spend(static_cast<int64_t>(matrix->args.size()))) return nullptr;
      out = !out ? matrix : e.kind == Kind::kSum ? Added(*out, *matrix) : Multiplied(*out, *matrix);
      if (!out) return nullptr;
    }
    if (!out || !factor) return out;
    auto scaled = std::make_shared<Expr>(*out);
    for (ExprPtr& cell : scaled->args) cell = Product(factor, cell);
    return scaled;
  }

  static ExprPtr Added(const Expr& a, const Expr& b) {
    if (a.columns != b.columns || a.args.size() != b.args.size()) return nullptr;
    auto out = std::make_shared<Expr>(a);
    for (size_t i = 0; i < out->args.size(); ++i) out->args[i] = Sum(a.args[i], b.args[i]);
    return out;
  }

  static ExprPtr Multiplied(const Expr& a, const Expr& b) {
    const size_t rows = a.args.size() / a.columns;
    if (a.columns * b.columns != b.args.size()) return nullptr;
    auto out = std::make_shared<Expr>(b);
    out->args.clear();
    for (size_t i = 0; i < rows * b.columns; ++i) {
      ExprPtr cell;
      for (size_t k = 0; k < a.columns; ++k) {
        ExprPtr term =
            Product(a.args[i / b.columns * a.columns + k], b.args[k * b.columns + i % b.columns]);
        cell = cell ? Sum(std::move(cell), std::move(term)) : std::move(term);
      }
      out->args.push_back(std::move(cell));
    }
    return out;
  }

  bool SameCollections(const ExprPtr& gold, const ExprPtr& answer) {
    const ExprPtr a = IsCollection(*gold) ? gold : Make(Kind::kSet, {gold});
    const ExprPtr b = IsCollection(*answer) ? answer : Make(Kind::kSet, {answer});
    if (a->kind == Kind::kInterval && b->kind == Kind::kInterval) {
      return a->left_open == b->left_open && a->right_open == b->right_open &&
             Same(a->args[0], b->args[0]) && Same(a->args[1], b->args[1]);
    }
    const auto finite = [](const Expr& e) {
      return e.kind == Kind::kSet || e.kind == Kind::kTuple;
    };
    if (finite(*a) && finite(*b)) return SameElements(*a, *b);
    // (1, 2) is a pair as well as an interval.
    const auto pair = [](const Expr& e) {
      return e.kind == Kind::kInterval && e.left_open && e.right_open;
    };
    if (pair(*a) && finite(*b)) return SameElements(*Make(Kind::kTuple, a->args), *b);
    if (pair(*b) && finite(*a)) return SameElements(*a, *Make(Kind::kTuple, b->args));
    if (IsSetLike(*a) && IsSetLike(*b)) return SameRegion(*a, *b, budget_).value_or(false);
    return false;
  }

  // A gold tuple wants its order; a gold set takes any.
  bool SameElements(const Expr& gold, const Expr& answer) {
    const Exprs a = gold.kind == Kind::kSet ? Distinct(gold.args) : gold.args;
    const Exprs b = answer.kind == Kind::kSet ? Distinct(answer.args) : answer.args;
    if (a.size() != b.size() || a.size() > kMaxElements) return false;
    if (gold.kind == Kind::kTuple) {
      for (size_t i = 0; i < a.size(); ++i) {
        if (!Same(a[i], b[i])) return false;
      }
      return true;
    }
    std::vector<bool> used(b.size(), false);
    for (const ExprPtr& element : a) {
      size_t match = 0;
      while (match < b.size() && (used[match] || !Same(element, b[match]))) ++match;
      if (match == b.size()) return false;
      used[match] = true;
    }
    return true;
  }

  static Exprs Distinct(const Exprs& elements) {
    Exprs out;
    std::vector<std::string> keys;
    for (const ExprPtr& e : elements) {
      std::string key = Key(*e);
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      keys.push_back(std::move(key));
      out.push_back(e);
    }
    return out;
  }

  bool SameRelations(const Expr& gold, const Expr& answer) {
    if (gold.kind == Kind::kChain || answer.kind == Kind::kChain) return SameChains(gold, answer);
    if (gold.name == answer.name &&
        SameSides(*gold.args[0], *gold.args[1], *answer.args[0], *answer.args[1])) {
      return true;
    }
    if (Flipped(gold.name) == answer.name &&
        SameSides(*gold.args[0], *gold.args[1], *answer.args[1], *answer.args[0])) {
      return true;
    }
    if (gold.name != answer.name) return false;
    if (Key(*gold.args[0]) == Key(*answer.args[0])) return Same(gold.args[1], answer.args[1]);
    for (const Expr* e : {&gold, &answer}) {
      if (IsCollection(*e->args[0]) || IsCollection(*e->args[1])) {
        return Same(gold.args[0], answer.args[0]) && Same(gold.args[1], answer.args[1]);
      }
    }
    return gold.name == "=" && SameZeros(*Difference(gold.args[0], gold.args[1]),
                                         *Difference(answer.args[0], answer.args[1]), budget_);
  }

  // left - right is the same on both sides.
  bool SameSides(const Expr& gold_left, const Expr& gold_right, const Expr& left,
                 const Expr& right) {
    const auto copy = [](const Expr& e) { return std::make_shared<Expr>(e); };
    for (const Expr* e : {&gold_left, &gold_right, &left, &right}) {
      if (IsCollection(*e)) return false;
    }
    return SameValues(*Difference(copy(gold_left), copy(gold_right)),
                      *Difference(copy(left), copy(right)));
  }

  static std::string Flipped(const std::string& sign) {
    if (sign == "<") return ">";
    if (sign == ">") return "<";
    if (sign == "<=") return ">=";
    if (sign == ">=") return "<=";
    return sign;
  }

  // 1 < x < 2, read from either end.
  bool SameChains(const Expr& gold, const Expr& answer) {
    if (gold.kind != answer.kind || gold.args.size() != answer.args.size()) return false;
    bool forward = true, backward = true;
    for (size_t i = 0; i < gold.args.size(); ++i) {
      forward = forward && SameRelations(*gold.args[i], *answer.args[i]);
      backward = backward && SameRelations(*gold.args[i], *answer.args[gold.args.size() - 1 - i]);
    }
    return forward || backward;
  }

  const AnswerOptions& options_;
  Budget& budget_;
  int opinions_left_ = kMostOpinions;
};

}  // namespace

bool SameAnswer(const ExprPtr& gold, const ExprPtr& answer, const AnswerOptions& options,
                Budget& budget) {
  return Comparison(options, budget).Same(gold, answer);
}

}  // namespace tramontane::math
