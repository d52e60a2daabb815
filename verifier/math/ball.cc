#include "verifier/math/ball.h"

#include <acb_hypgeom.h>
#include <fmpq.h>

#include <string_view>
#include <utility>

namespace tramontane::math {
namespace {

using Unary = void (*)(acb_t, const acb_t, slong);

constexpr slong kMaxExponentBits = 40;  // e^(2^40) is as good as no number
constexpr slong kMaxTerms = 2000;       // of a sum or product

void Reciprocal(Unary f, acb_ptr out, acb_srcptr x, slong precision) {
  acb_inv(out, x, precision);
  f(out, out, precision);
}

constexpr std::pair<std::string_view, Unary> kUnary[] = {
    {"sin", acb_sin},     {"cos", acb_cos},     {"tan", acb_tan},     {"cot", acb_cot},
    {"sec", acb_sec},     {"csc", acb_csc},     {"asin", acb_asin},   {"acos", acb_acos},
    {"atan", acb_atan},   {"sinh", acb_sinh},   {"cosh", acb_cosh},   {"tanh", acb_tanh},
    {"asinh", acb_asinh}, {"acosh", acb_acosh}, {"atanh", acb_atanh}};
// Inverse functions that are another one of the reciprocal.
constexpr std::pair<std::string_view, Unary> kOfReciprocal[] = {
    {"acot", acb_atan}, {"asec", acb_acos}, {"acsc", acb_asin}};

bool IsInfinity(const Expr& e) {
  if (e.kind == Kind::kProduct) return IsInfinity(*e.args.back());
  return e.kind == Kind::kConstant && e.name == "infinity";
}

bool IsTooLarge(acb_srcptr x) {
  Ball magnitude;
  acb_set(magnitude.get(), x);
  arf_t bound;
  arf_init(bound);
  acb_get_abs_ubound_arf(bound, magnitude.get(), 32);
  const bool large = arf_cmpabs_2exp_si(bound, kMaxExponentBits) > 0;
  arf_clear(bound);
  return large;
}

class Evaluator {
 public:
  Evaluator(const Binding& binding, slong precision, Budget& budget)
      : binding_(binding), precision_(precision), budget_(budget) {}

  bool Run(const Expr& e, acb_ptr out) {
    if (!budget_.Spend(1 + precision_ / 256)) return false;
    if (!Value(e, out)) return false;
    return acb_is_finite(out) != 0;
  }

 private:
  bool Value(const Expr& e, acb_ptr out) {
    switch (e.kind) {
      case Kind::kNumber: return NumberValue(e.value, out);
      case Kind::kSymbol:
        if (index_.contains(e.name)) {
          acb_set_si(out, index_.at(e.name));
        } else {
          binding_(Key(e), out, precision_);
        }
        return true;
      case Kind::kConstant: return Constant(e.name, out);
      case Kind::kSum: return Fold(e, acb_add, out);
      case Kind::kProduct: return Fold(e, acb_mul, out);
      case Kind::kPower: return Power(e, out);
      case Kind::kPercent:
        if (!Run(*e.args[0], out)) return false;
        acb_div_ui(out, out, 100, precision_);
        return true;
      case Kind::kCall: return Call(e, out);
      default: return false;
    }
  }

  bool NumberValue(const mpq_class& value, acb_ptr out) {
    fmpq_t q;
    fmpq_init(q);
    fmpq_set_mpq(q, value.get_mpq_t());
    acb_set_fmpq(out, q, precision_);
    fmpq_clear(q);
    return true;
  }

  bool Constant(const std::string& name, acb_ptr out) {
    if (index_.contains(name)) {
      acb_set_si(out, index_.at(name));
    } else if (name == "pi") {
      acb_const_pi(out, precision_);
    } else if (name == "e") {
      acb_set_si(out, 1);
      acb_exp(out, out, precision_);
    } else if (name == "i") {
      acb_onei(out);
    } else {
      binding_("infinity", out, precision_);  // like a symbol: ∞ = ∞ and -∞ is not
    }
    return true;
  }

  bool Fold(const Expr& e, void (*f)(acb_t, const acb_t, const acb_t, slong), acb_ptr out) {
    if (!Run(*e.args[0], out)) return false;
    Ball term;
    for (size_t i = 1; i < e.args.size(); ++i) {
      if (!Run(*e.args[i], term.get())) return false;
      f(out, out, term.get(), precision_);
    }
    return true;
  }

  bool Power(const Expr& e, acb_ptr out) {
    Ball base, exponent;
    if (!Run(*e.args[0], base.get()) || !Run(*e.args[1], exponent.get())) return false;
    if (IsTooLarge(exponent.get())) return false;
    // 0^x is 0 for positive x, though its logarithm is none.
    if (acb_is_zero(base.get()) && arb_is_positive(acb_realref(exponent.get()))) {
      acb_zero(out);
      return true;
    }
    acb_pow(out, base.get(), exponent.get(), precision_);
    return true;
  }

  bool Call(const Expr& e, acb_ptr out) {
    if (e.name == "sum" || e.name == "prod") return Series(e, out);
    if (e.name == "int" || e.name == "lim") return false;
    if (e.name == "det") return Determinant(*e.args[0], out);
    if (e.name == "log") return Logarithm(e, out);
    if (e.name == "max" || e.name == "min") return Extreme(e, out);
    if (e.name == "binomial") return Binomial(e, out);
    if (e.args.size() == 1 && e.args[0]->kind != Kind::kMatrix) {
      const auto applied = OfOne(e.name, *e.args[0], out);
      if (applied.first) return applied.second;
    }
    binding_(Key(e), out, precision_);  // f(x): whatever it is, it is the same on both sides
    return true;
  }

  // Whether `name` is a function of one argument that is known here, and whether it has a value.
  std::pair<bool, bool> OfOne(const std::string& name, const Expr& argument, acb_ptr out) {
    const auto with = [&](auto&& apply) {
      Ball x;
      if (!Run(argument, x.get())) return std::pair(true, false);
      if (IsTooLarge(x.get())) return std::pair(true, false);
      return std::pair(true, apply(x.get()));
    };
    for (const auto& [known, f] : kUnary) {
      if (known == name) return with([&, f = f](acb_ptr x) { return f(out, x, precision_), true; });
    }
    for (const auto& [known, f] : kOfReciprocal) {
      if (known == name) {
        return with([&, f = f](acb_ptr x) { return Reciprocal(f, out, x, precision_), true; });
      }
    }
    if (name == "abs") {
      return with([&](acb_ptr x) {
        acb_abs(acb_realref(out), x, precision_);
        arb_zero(acb_imagref(out));
        return true;
      });
    }
    if (name == "factorial") {
      return with([&](acb_ptr x) {
        acb_add_ui(x, x, 1, precision_);
        acb_gamma(out, x, precision_);
        return true;
      });
    }
    if (name == "floor" || name == "ceil") {
      return with([&](acb_ptr x) {
        if (arb_contains_zero(acb_imagref(x)) == 0) return false;
        (name == "floor" ? arb_floor : arb_ceil)(acb_realref(out), acb_realref(x), precision_);
        arb_zero(acb_imagref(out));
        return true;
      });
    }
    return {false, false};
  }

  bool Logarithm(const Expr& e, acb_ptr out) {
    Ball base;
    if (!Run(*e.args[0], out) || !Run(*e.args[1], base.get())) return false;
    acb_log(out, out, precision_);
    acb_log(base.get(), base.get(), precision_);
    acb_div(out, out, base.get(), precision_);
    return true;
  }

  bool Extreme(const Expr& e, acb_ptr out) {
    if (e.args.empty() || !Run(*e.args[0], out)) return false;
    Ball next;
    for (size_t i = 1; i < e.args.size(); ++i) {
      if (!Run(*e.args[i], next.get())) return false;
      (e.name == "max" ? arb_max : arb_min)(acb_realref(out), acb_realref(out),
                                            acb_realref(next.get()), precision_);
    }
    arb_zero(acb_imagref(out));
    return true;
  }

  bool Binomial(const Expr& e, acb_ptr out) {
    Ball n, k;
    if (!Run(*e.args[0], n.get()) || !Run(*e.args[1], k.get())) return false;
    if (IsTooLarge(n.get()) || IsTooLarge(k.get())) return false;
    // n! / (k! (n - k)!)
    acb_sub(out, n.get(), k.get(), precision_);
    acb_add_ui(out, out, 1, precision_);
    acb_rgamma(out, out, precision_);
    acb_add_ui(k.get(), k.get(), 1, precision_);
    acb_rgamma(k.get(), k.get(), precision_);
    acb_mul(out, out, k.get(), precision_);
    acb_add_ui(n.get(), n.get(), 1, precision_);
    acb_gamma(n.get(), n.get(), precision_);
    acb_mul(out, out, n.get(), precision_);
    return true;
  }

  bool IntegerOf(const Expr& e, slong& out) {
    Ball value;
    if (!Run(e, value.get()) || IsTooLarge(value.get())) return false;
    fmpz_t integer;
    fmpz_init(integer);
    const bool unique = arb_get_unique_fmpz(integer, acb_realref(value.get())) != 0;
    out = unique ? fmpz_get_si(integer) : 0;
    fmpz_clear(integer);
    return unique && arb_contains_zero(acb_imagref(value.get())) != 0;
  }

  bool Series(const Expr& e, acb_ptr out) {
    slong first = 0, last = 0;
    const std::string& index = e.args[1]->name;
    if (IsInfinity(*e.args[2]) || IsInfinity(*e.args[3])) return false;
    if (index_.contains(index) || !IntegerOf(*e.args[2], first) || !IntegerOf(*e.args[3], last) ||
        last - first > kMaxTerms) {
      return false;
    }
    const bool sum = e.name == "sum";
    acb_set_si(out, sum ? 0 : 1);
    Ball term;
    bool good = true;
    for (slong k = first; good && k <= last; ++k) {
      index_[index] = k;
      good = Run(*e.args[0], term.get());
      (sum ? acb_add : acb_mul)(out, out, term.get(), precision_);
    }
    index_.erase(index);
    return good;
  }

  // By the first column; matrices in answers are small.
  bool Determinant(const Expr& matrix, acb_ptr out) {
    if (matrix.kind != Kind::kMatrix || matrix.args.size() != matrix.columns * matrix.columns ||
        matrix.columns > 5) {
      return false;
    }
    const size_t n = matrix.columns;
    if (n == 1) return Run(*matrix.args[0], out);
    acb_zero(out);
    for (size_t row = 0; row < n; ++row) {
      Expr minor;
      minor.kind = Kind::kMatrix;
      minor.columns = n - 1;
      for (size_t i = 0; i < matrix.args.size(); ++i) {
        if (i / n != row && i % n != 0) minor.args.push_back(matrix.args[i]);
      }
      Ball cell, rest;
      if (!Run(*matrix.args[row * n], cell.get()) || !Determinant(minor, rest.get())) return false;
      acb_mul(cell.get(), cell.get(), rest.get(), precision_);
      (row % 2 == 0 ? acb_add : acb_sub)(out, out, cell.get(), precision_);
    }
    return true;
  }

  const Binding& binding_;
  const slong precision_;
  Budget& budget_;
  std::map<std::string, slong> index_;  // of the sums around
};

}  // namespace

bool Evaluate(const Expr& e, const Binding& binding, slong precision, Budget& budget, acb_ptr out) {
  return Evaluator(binding, precision, budget).Run(e, out);
}

}  // namespace tramontane::math
