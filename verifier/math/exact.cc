#include "verifier/math/exact.h"

#include <utility>

namespace tramontane::math {
namespace {

size_t Bits(const mpq_class& q) {
  return mpz_sizeinbase(q.get_num_mpz_t(), 2) + mpz_sizeinbase(q.get_den_mpz_t(), 2);
}

std::optional<mpq_class> Checked(mpq_class value) {
  if (Bits(value) > kMaxBits) return std::nullopt;
  return value;
}

// base^(p/q) where it is rational.
std::optional<mpq_class> Power(const mpq_class& base, const mpq_class& exponent) {
  const mpz_class& p = exponent.get_num();
  const mpz_class& q = exponent.get_den();
  if (!p.fits_slong_p() || !q.fits_ulong_p() || q > 1000) return std::nullopt;
  mpq_class root = base;
  if (q != 1) {
    if (base < 0) return std::nullopt;  // the principal root is complex
    const unsigned long n = q.get_ui();
    if (mpz_root(root.get_num_mpz_t(), base.get_num_mpz_t(), n) == 0 ||
        mpz_root(root.get_den_mpz_t(), base.get_den_mpz_t(), n) == 0) {
      return std::nullopt;
    }
  }
  const bool inverse = p < 0;
  const mpz_class magnitude = abs(p);
  if (root == 0) return inverse ? std::nullopt : std::optional(mpq_class(p == 0 ? 1 : 0));
  if (root == 1) return root;
  if (root == -1) return mpq_class(mpz_odd_p(p.get_mpz_t()) != 0 ? -1 : 1);
  if (magnitude > kMaxBits || magnitude.get_ui() * Bits(root) > 2 * kMaxBits) return std::nullopt;
  mpq_class out;
  mpz_pow_ui(out.get_num_mpz_t(), root.get_num_mpz_t(), magnitude.get_ui());
  mpz_pow_ui(out.get_den_mpz_t(), root.get_den_mpz_t(), magnitude.get_ui());
  if (inverse) out = 1 / out;
  return Checked(std::move(out));
}

std::optional<mpz_class> Integer(const Expr& e) {
  const std::optional<mpq_class> value = ExactValue(e);
  if (!value || value->get_den() != 1) return std::nullopt;
  return value->get_num();
}

std::optional<mpq_class> Binomial(const Expr& n, const Expr& k) {
  const std::optional<mpz_class> top = Integer(n), bottom = Integer(k);
  if (!top || !bottom || *bottom < 0 || *bottom > 2000 || abs(*top) > 100000) return std::nullopt;
  mpz_class out;
  mpz_bin_ui(out.get_mpz_t(), top->get_mpz_t(), bottom->get_ui());
  return Checked(mpq_class(out));
}

std::optional<mpq_class> Factorial(const Expr& e) {
  const std::optional<mpz_class> n = Integer(e);
  if (!n || *n < 0 || *n > 5000) return std::nullopt;
  mpz_class out;
  mpz_fac_ui(out.get_mpz_t(), n->get_ui());
  return Checked(mpq_class(out));
}

std::optional<mpq_class> Extreme(const Expr& e) {
  std::optional<mpq_class> best;
  for (const ExprPtr& arg : e.args) {
    const std::optional<mpq_class> value = ExactValue(*arg);
    if (!value) return std::nullopt;
    if (!best || (e.name == "max" ? *value > *best : *value < *best)) best = value;
  }
  return best;
}

std::optional<mpq_class> CommonDivisor(const Expr& e) {
  std::optional<mpz_class> out;
  for (const ExprPtr& arg : e.args) {
    std::optional<mpz_class> value = Integer(*arg);
    if (!value) return std::nullopt;
    if (!out) {
      out = std::move(value);
    } else {
      (e.name == "gcd" ? mpz_gcd : mpz_lcm)(out->get_mpz_t(), out->get_mpz_t(), value->get_mpz_t());
    }
  }
  if (!out) return std::nullopt;
  return Checked(mpq_class(*out));
}

std::optional<mpq_class> Call(const Expr& e) {
  if (e.name == "binomial") return Binomial(*e.args[0], *e.args[1]);
  if (e.name == "factorial") return Factorial(*e.args[0]);
  if (e.name == "max" || e.name == "min") return Extreme(e);
  if (e.name == "gcd" || e.name == "lcm") return CommonDivisor(e);
  if (e.name == "abs" || e.name == "floor" || e.name == "ceil") {
    const std::optional<mpq_class> value = ExactValue(*e.args[0]);
    if (!value) return std::nullopt;
    if (e.name == "abs") return mpq_class(abs(*value));
    mpz_class out;
    (e.name == "floor" ? mpz_fdiv_q : mpz_cdiv_q)(out.get_mpz_t(), value->get_num_mpz_t(),
                                                   value->get_den_mpz_t());
    return mpq_class(out);
  }
  if (e.name == "mod") {
    const std::optional<mpz_class> a = Integer(*e.args[0]), b = Integer(*e.args[1]);
    if (!a || !b || *b == 0) return std::nullopt;
    mpz_class out;
    mpz_fdiv_r(out.get_mpz_t(), a->get_mpz_t(), b->get_mpz_t());
    return mpq_class(out);
  }
  return std::nullopt;
}

}  // namespace

std::optional<mpq_class> ExactValue(const Expr& e) {
  switch (e.kind) {
    case Kind::kNumber: return e.value;
    case Kind::kPercent: {
      std::optional<mpq_class> value = ExactValue(*e.args[0]);
      if (value) *value /= 100;
      return value;
    }
    case Kind::kSum:
    case Kind::kProduct: {
      mpq_class out = e.kind == Kind::kSum ? 0 : 1;
      for (const ExprPtr& arg : e.args) {
        const std::optional<mpq_class> value = ExactValue(*arg);
        if (!value) return std::nullopt;
        if (e.kind == Kind::kSum) {
          out += *value;
        } else {
          out *= *value;
        }
        if (Bits(out) > kMaxBits) return std::nullopt;
      }
      return out;
    }
    case Kind::kPower: {
      const std::optional<mpq_class> base = ExactValue(*e.args[0]);
      if (!base) return std::nullopt;
      const std::optional<mpq_class> exponent = ExactValue(*e.args[1]);
      return exponent ? Power(*base, *exponent) : std::nullopt;
    }
    case Kind::kCall: return Call(e);
    default: return std::nullopt;
  }
}

mpz_class Rounded(const mpq_class& value, int decimals) {
  mpz_class scale;
  mpz_ui_pow_ui(scale.get_mpz_t(), 10, static_cast<unsigned long>(decimals));
  const mpq_class shifted = value * scale + mpq_class(1, 2);
  mpz_class out;
  mpz_fdiv_q(out.get_mpz_t(), shifted.get_num_mpz_t(), shifted.get_den_mpz_t());
  return out;
}

}  // namespace tramontane::math
