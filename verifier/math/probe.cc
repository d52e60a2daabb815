#include "verifier/math/probe.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "verifier/math/exact.h"

namespace tramontane::math {
namespace {

constexpr int kPoints = 3;     // that must agree
constexpr int kAttempts = 10;  // to find them: an expression may have no value at some
constexpr slong kPrecisions[] = {128, 512, 2048};
constexpr slong kAgreementBits = 60;

uint64_t Hash(const std::string& key, int round) {
  uint64_t h = 0xcbf29ce484222325ull + static_cast<uint64_t>(round) * 0x9e3779b97f4a7c15ull;
  for (unsigned char c : key) h = (h ^ c) * 0x100000001b3ull;
  h ^= h >> 31;
  return (h * 0xbf58476d1ce4e5b9ull) >> 20;
}

// A multiple of 1/512 between 0.3 and 3.3 in size. Of the first three rounds one is all positive
// and one all negative: √x² is not x. Sums have values for whole bounds only.
void SymbolValue(const std::string& key, int round, bool whole, acb_ptr out) {
  const uint64_t h = Hash(key, round);
  if (whole) return acb_set_si(out, 2 + static_cast<slong>(h % 11));
  slong numerator = 154 + static_cast<slong>(h % 1536);
  if (round == 1 || (round > 1 && (h >> 20) % 2 == 0)) numerator = -numerator;
  acb_set_si(out, numerator);
  acb_mul_2exp_si(out, out, -9);
}

Binding Point(int round, bool whole = false) {
  return [round, whole](const std::string& key, acb_ptr out, slong) {
    SymbolValue(key, round, whole, out);
  };
}

enum class Outcome { kAgree, kDiffer, kNoValue };

// The error of `x` is at most 2^-kAgreementBits.
bool IsTight(acb_srcptr x, acb_srcptr scale, bool relative) {
  mag_t radius, bound;
  mag_init(radius);
  mag_init(bound);
  mag_hypot(radius, arb_radref(acb_realref(x)), arb_radref(acb_imagref(x)));
  mag_one(bound);
  if (relative) acb_get_mag(bound, scale);
  mag_mul_2exp_si(bound, bound, -kAgreementBits);
  const bool tight = mag_cmp(radius, bound) <= 0;
  mag_clear(radius);
  mag_clear(bound);
  return tight;
}

Outcome CompareAt(const Expr& a, const Expr& b, int round, bool whole, Budget& budget) {
  const Binding point = Point(round, whole);
  Ball x, y, difference;
  for (slong precision : kPrecisions) {
    if (!Evaluate(a, point, precision, budget, x.get()) ||
        !Evaluate(b, point, precision, budget, y.get())) {
      return Outcome::kNoValue;
    }
    acb_sub(difference.get(), x.get(), y.get(), precision);
    if (acb_contains_zero(difference.get()) == 0) return Outcome::kDiffer;
    const bool last = precision == *std::rbegin(kPrecisions);
    if (IsTight(difference.get(), x.get(), last)) return Outcome::kAgree;
  }
  return Outcome::kNoValue;
}

bool HasSeries(const Expr& e) {
  if (e.kind == Kind::kCall && (e.name == "sum" || e.name == "prod")) return true;
  return std::any_of(e.args.begin(), e.args.end(),
                     [](const ExprPtr& arg) { return HasSeries(*arg); });
}

bool HasInfinity(const Expr& e) {
  if (e.kind == Kind::kConstant && e.name == "infinity") return true;
  for (const ExprPtr& arg : e.args) {
    if (HasInfinity(*arg)) return true;
  }
  return false;
}

bool ConstantBall(const Expr& e, Budget& budget, Ball& out) {
  if (HasSymbol(e) || HasInfinity(e)) return false;
  return Evaluate(e, Point(0), kPrecisions[0], budget, out.get()) &&
         arb_contains_zero(acb_imagref(out.get())) != 0 && IsTight(out.get(), out.get(), true);
}

struct Complex {
  double re = 0, im = 0;
};

// One expression as a function of one symbol, the others held at a point.
class Slice {
 public:
  Slice(const Expr& e, std::string symbol, int round, Budget& budget)
      : e_(e), symbol_("$" + symbol), round_(round), budget_(budget) {}

  bool At(acb_srcptr x, acb_ptr out) const {
    const Binding binding = [&](const std::string& key, acb_ptr value, slong) {
      if (key == symbol_) {
        acb_set(value, x);
      } else {
        SymbolValue(key, round_, false, value);
      }
    };
    if (!Evaluate(e_, binding, kBits, budget_, out)) return false;
    acb_get_mid(out, out);  // iterations need points, not bounds
    return true;
  }

  static constexpr slong kBits = 128;

 private:
  const Expr& e_;
  const std::string symbol_;
  const int round_;
  Budget& budget_;
};

double Magnitude(acb_srcptr x) {
  return std::hypot(arf_get_d(arb_midref(acb_realref(x)), ARF_RND_NEAR),
                    arf_get_d(arb_midref(acb_imagref(x)), ARF_RND_NEAR));
}

// The secant method in the complex plane. A root is where the values have become 2^-60 times
// smaller than they were at the start.
bool FindRoot(const Slice& f, double re, double im, Ball& root) {
  Ball x0, x1, y0, y1, slope;
  acb_set_d_d(x0.get(), re, im);
  acb_set_d_d(x1.get(), re + 0.13, im + 0.07);
  if (!f.At(x0.get(), y0.get())) return false;
  const double start = Magnitude(y0.get());
  if (!f.At(x1.get(), y1.get())) return false;
  for (int i = 0; i < 60; ++i) {
    if (Magnitude(y1.get()) <= std::ldexp(start + 1e-9, -60)) {
      root = x1;
      return true;
    }
    acb_sub(slope.get(), y1.get(), y0.get(), Slice::kBits);
    acb_sub(x0.get(), x1.get(), x0.get(), Slice::kBits);
    acb_div(slope.get(), slope.get(), x0.get(), Slice::kBits);
    x0 = x1;
    y0 = y1;
    acb_div(slope.get(), y1.get(), slope.get(), Slice::kBits);
    acb_sub(x1.get(), x1.get(), slope.get(), Slice::kBits);
    acb_get_mid(x1.get(), x1.get());
    if (acb_is_finite(x1.get()) == 0 || Magnitude(x1.get()) > 1e6) return false;
    if (!f.At(x1.get(), y1.get())) return false;
  }
  return false;
}

constexpr Complex kStarts[] = {{0.4, 0.3},  {-0.7, 0.2}, {2.3, -0.4}, {-3.1, 0.5}, {7.7, 0.9},
                               {-9.2, -1.1}, {0.1, 2.2},  {31, 1},     {-27, 2},    {110, 3}};

// Every root of f that is found is one of g. `found` counts the roots that were looked at.
bool RootsAreRoots(const Expr& f, const Expr& g, const std::string& symbol, int round,
                   Budget& budget, int& found) {
  const Slice from(f, symbol, round, budget), to(g, symbol, round, budget);
  Ball root, value, beside, beside_value;
  for (const Complex& start : kStarts) {
    if (!FindRoot(from, start.re, start.im, root)) continue;
    // Nearly real roots only: symbols are real.
    if (std::fabs(arf_get_d(arb_midref(acb_imagref(root.get())), ARF_RND_NEAR)) > 1e-8) continue;
    if (!to.At(root.get(), value.get())) return false;
    acb_set_d_d(beside.get(), 1e-3, 0);
    acb_add(beside.get(), beside.get(), root.get(), Slice::kBits);
    if (!to.At(beside.get(), beside_value.get())) return false;
    if (Magnitude(value.get()) > 1e-7 * Magnitude(beside_value.get())) return false;
    ++found;
  }
  return true;
}

}  // namespace

Sameness CompareValues(const Expr& a, const Expr& b, Budget& budget) {
  const std::optional<mpq_class> exact_a = ExactValue(a);
  if (exact_a) {
    const std::optional<mpq_class> exact_b = ExactValue(b);
    if (exact_b) return *exact_a == *exact_b ? Sameness::kSame : Sameness::kDifferent;
  }
  const bool constant = !HasSymbol(a) && !HasSymbol(b) && !HasInfinity(a) && !HasInfinity(b);
  const bool whole = HasSeries(a) || HasSeries(b);
  int agreed = 0;
  for (int round = 0; round < kAttempts && !budget.spent(); ++round) {
    const Outcome outcome = CompareAt(a, b, round, whole, budget);
    if (outcome == Outcome::kDiffer) return Sameness::kDifferent;
    if (outcome == Outcome::kAgree && (constant || ++agreed == kPoints)) return Sameness::kSame;
    if (outcome == Outcome::kNoValue && constant) break;
  }
  return Sameness::kUnknown;
}

std::optional<double> RealValue(const Expr& e, Budget& budget) {
  if (e.kind == Kind::kConstant && e.name == "infinity") return HUGE_VAL;
  if (e.kind == Kind::kProduct && e.args.size() == 2 && e.args[0]->kind == Kind::kNumber &&
      e.args[1]->kind == Kind::kConstant && e.args[1]->name == "infinity") {
    return e.args[0]->value < 0 ? -HUGE_VAL : HUGE_VAL;
  }
  if (const std::optional<mpq_class> exact = ExactValue(e)) return exact->get_d();
  Ball value;
  if (!ConstantBall(e, budget, value)) return std::nullopt;
  return arf_get_d(arb_midref(acb_realref(value.get())), ARF_RND_NEAR);
}

std::optional<mpz_class> RoundedValue(const Expr& e, int decimals, Budget& budget) {
  if (const std::optional<mpq_class> exact = ExactValue(e)) return Rounded(*exact, decimals);
  Ball value;
  if (!ConstantBall(e, budget, value)) return std::nullopt;
  fmpq_t middle;
  fmpq_init(middle);
  arf_get_fmpq(middle, arb_midref(acb_realref(value.get())));
  mpq_class rational;
  fmpq_get_mpq(rational.get_mpq_t(), middle);
  fmpq_clear(middle);
  // An exponent far out of range would make a number of as many digits.
  if (mpz_sizeinbase(rational.get_num_mpz_t(), 2) > kMaxBits ||
      mpz_sizeinbase(rational.get_den_mpz_t(), 2) > kMaxBits) {
    return std::nullopt;
  }
  return Rounded(rational, decimals);
}

std::optional<int> Sign(const Expr& e, Budget& budget) {
  if (const std::optional<mpq_class> exact = ExactValue(e)) return sgn(*exact);
  Ball value;
  if (!ConstantBall(e, budget, value)) {
    // A tiny ball around zero has no relative accuracy.
    if (HasSymbol(e) || HasInfinity(e) ||
        !Evaluate(e, Point(0), kPrecisions[1], budget, value.get()) ||
        arb_contains_zero(acb_imagref(value.get())) == 0 ||
        !IsTight(value.get(), value.get(), false)) {
      return std::nullopt;
    }
  }
  if (arb_contains_zero(acb_realref(value.get())) != 0) return 0;
  return arb_is_positive(acb_realref(value.get())) != 0 ? 1 : -1;
}

bool SameZeros(const Expr& f, const Expr& g, Budget& budget) {
  std::set<std::string> f_symbols, g_symbols;
  CollectSymbols(f, f_symbols);
  CollectSymbols(g, g_symbols);
  if (f_symbols != g_symbols || f_symbols.empty()) return false;
  for (int round = 3; round < 3 + kAttempts && !budget.spent(); ++round) {
    int found = 0;
    if (!RootsAreRoots(f, g, *f_symbols.begin(), round, budget, found)) return false;
    if (!RootsAreRoots(g, f, *f_symbols.begin(), round, budget, found)) return false;
    if (found > 0) return true;
  }
  return false;
}

ExprPtr Substitute(const ExprPtr& e, const std::string& name, const ExprPtr& value) {
  if (e->kind == Kind::kSymbol && e->name == name) return value;
  if (e->args.empty()) return e;
  auto copy = std::make_shared<Expr>(*e);
  for (ExprPtr& arg : copy->args) arg = Substitute(arg, name, value);
  return copy;
}

}  // namespace tramontane::math
