#include "verifier/numeric.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "verifier/units.h"

namespace tramontane {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view WithoutLeadingZeros(std::string_view digits) {
  const size_t first = digits.find_first_not_of('0');
  return first == digits.npos ? std::string_view() : digits.substr(first);
}

// Strips zeros from both ends; returns how many came off the end.
int64_t Strip(std::string& digits) {
  digits = std::string(WithoutLeadingZeros(digits));
  const size_t last = digits.find_last_not_of('0');
  const size_t keep = last == digits.npos ? 0 : last + 1;
  const int64_t stripped = static_cast<int64_t>(digits.size() - keep);
  digits.resize(keep);
  return stripped;
}

ExactNumber Canonical(ExactNumber n) {
  n.exponent += Strip(n.numerator);
  n.exponent -= Strip(n.denominator);
  if (n.numerator.empty()) return ExactNumber{};
  return n;
}

// Limbs of nine digits, lowest first.
std::vector<uint64_t> ToLimbs(std::string_view digits) {
  std::vector<uint64_t> limbs;
  while (!digits.empty()) {
    const size_t take = std::min<size_t>(9, digits.size());
    uint64_t limb = 0;
    for (char c : digits.substr(digits.size() - take)) limb = limb * 10 + static_cast<uint64_t>(c - '0');
    limbs.push_back(limb);
    digits.remove_suffix(take);
  }
  return limbs;
}

std::string ToDigits(const std::vector<uint64_t>& limbs) {
  std::string digits;
  for (size_t i = limbs.size(); i-- > 0;) {
    char buffer[24];
    std::snprintf(buffer, sizeof buffer, "%09llu", static_cast<unsigned long long>(limbs[i]));
    digits += buffer;
  }
  return std::string(WithoutLeadingZeros(digits));
}

constexpr uint64_t kLimb = 1'000'000'000;

// a · b + c. The product is quadratic; callers bound the digits by kMaxFractionDigits.
std::string MultiplyAdd(std::string_view a, std::string_view b, std::string_view c) {
  const std::vector<uint64_t> x = ToLimbs(a), y = ToLimbs(b), z = ToLimbs(c);
  std::vector<uint64_t> out(std::max(x.size() + y.size(), z.size()) + 1, 0);
  for (size_t i = 0; i < x.size(); ++i) {
    uint64_t carry = 0;
    for (size_t j = 0; j < y.size() || carry != 0; ++j) {
      const uint64_t sum = out[i + j] + carry + (j < y.size() ? x[i] * y[j] : 0);
      out[i + j] = sum % kLimb;
      carry = sum / kLimb;
    }
  }
  uint64_t carry = 0;
  for (size_t i = 0; i < out.size() && (i < z.size() || carry != 0); ++i) {
    const uint64_t sum = out[i] + carry + (i < z.size() ? z[i] : 0);
    out[i] = sum % kLimb;
    carry = sum / kLimb;
  }
  return ToDigits(out);
}

// Reads one number from the front of a text. Every member leaves `rest_` behind what it read;
// absence means that the text is not a number.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::optional<ExactNumber> Magnitude() {
    const bool negative = Sign();
    std::optional<ExactNumber> n;
    if (Take("\\frac")) {
      n = LatexFraction();
    } else {
      n = Plain();
    }
    if (n && negative && n->numerator != "0") n->negative = !n->negative;
    return n;
  }

  std::string_view rest() const { return rest_; }
  void SkipSpaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }
  bool Take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

 private:
  bool Sign() {
    bool negative = false;
    if (Take("-")) {
      negative = true;
    } else {
      Take("+");
    }
    SkipSpaces();
    return negative;
  }

  // A decimal or integer, perhaps the start of a fraction or of a mixed number.
  std::optional<ExactNumber> Plain() {
    const std::string_view before = rest_;
    std::optional<ExactNumber> n = Decimal();
    if (!n) return std::nullopt;
    const std::string_view written = before.substr(0, before.size() - rest_.size());
    const bool integer = std::all_of(written.begin(), written.end(), IsDigit);
    const std::string_view after = rest_;
    SkipSpaces();
    if (Take("/")) {
      SkipSpaces();
      const std::optional<ExactNumber> d = Decimal();
      return d ? Divide(*n, *d) : std::nullopt;
    }
    if (integer && Take("\\frac")) {
      const std::optional<ExactNumber> fraction = LatexFraction();
      return fraction ? Mixed(written, *fraction) : std::nullopt;
    }
    if (integer && after.starts_with(' ') && !rest_.empty() && IsDigit(rest_.front())) {
      const std::optional<ExactNumber> top = Decimal();
      if (!top || !Take("/")) return std::nullopt;
      const std::optional<ExactNumber> bottom = Decimal();
      const std::optional<ExactNumber> fraction = bottom ? Divide(*top, *bottom) : std::nullopt;
      return fraction ? Mixed(written, *fraction) : std::nullopt;
    }
    rest_ = after;
    return n;
  }

  // digits[,ddd…][.digits][exponent]
  std::optional<ExactNumber> Decimal() {
    std::string whole;
    if (!Whole(whole)) return std::nullopt;
    std::string_view fraction;
    if (rest_.starts_with('.')) {
      fraction = Digits(rest_.substr(1));
      rest_.remove_prefix(1 + fraction.size());
    }
    if (whole.empty() && fraction.empty()) return std::nullopt;
    ExactNumber n;
    if (whole == "10" && fraction.empty() && rest_.starts_with('^')) {
      n.numerator = "1";
      if (!PowerOfTen(n.exponent)) return std::nullopt;
      return Canonical(std::move(n));
    }
    n.numerator = whole + std::string(fraction);
    int64_t exponent = 0;
    if (!Exponent(exponent)) return std::nullopt;
    n.exponent = exponent - static_cast<int64_t>(fraction.size());
    return Canonical(std::move(n));
  }

  static std::string_view Digits(std::string_view text) {
    size_t n = 0;
    while (n < text.size() && IsDigit(text[n])) ++n;
    return text.substr(0, n);
  }

  // Digits with commas at every third place, or none at all.
  bool Whole(std::string& out) {
    std::string_view group = Digits(rest_);
    const size_t first = group.size();
    out = group;
    rest_.remove_prefix(first);
    while (rest_.starts_with(',') && rest_.size() > 1 && IsDigit(rest_[1])) {
      group = Digits(rest_.substr(1));
      if (first == 0 || first > 3 || group.size() != 3) return false;
      out += group;
      rest_.remove_prefix(4);
    }
    return true;
  }

  // e5, E-5, *10^5, *10^{-5}; none is 0. False when one begins and does not end.
  bool Exponent(int64_t& exponent) {
    if (rest_.size() > 1 && (rest_[0] == 'e' || rest_[0] == 'E') &&
        (IsDigit(rest_[1]) || ((rest_[1] == '-' || rest_[1] == '+') && rest_.size() > 2 &&
                               IsDigit(rest_[2])))) {
      rest_.remove_prefix(1);
      return SignedInteger(exponent);
    }
    const std::string_view before = rest_;
    SkipSpaces();
    if (Take("*")) {
      SkipSpaces();
      return Take("10") && PowerOfTen(exponent);
    }
    rest_ = before;
    return true;
  }

  bool PowerOfTen(int64_t& exponent) {
    if (!Take("^")) return false;
    if (!Take("{")) return SignedInteger(exponent);
    return SignedInteger(exponent) && Take("}");
  }

  bool SignedInteger(int64_t& value) {
    const bool negative = Sign();
    const std::string_view digits = Digits(rest_);
    const std::string_view significant = WithoutLeadingZeros(digits);
    if (digits.empty() || significant.size() > 10) return false;
    value = 0;
    for (char c : significant) value = value * 10 + (c - '0');
    if (value > kMaxExponent) return false;
    if (negative) value = -value;
    rest_.remove_prefix(digits.size());
    return true;
  }

  // {a}{b}, {a}b, 12 (one digit each), behind \frac.
  std::optional<ExactNumber> LatexFraction() {
    const std::optional<ExactNumber> top = Argument();
    if (!top) return std::nullopt;
    const std::optional<ExactNumber> bottom = Argument();
    return bottom ? Divide(*top, *bottom) : std::nullopt;
  }

  std::optional<ExactNumber> Argument() {
    SkipSpaces();
    if (!Take("{")) {
      if (rest_.empty() || !IsDigit(rest_.front())) return std::nullopt;
      ExactNumber n;
      n.numerator = rest_.substr(0, 1);
      rest_.remove_prefix(1);
      return Canonical(std::move(n));
    }
    SkipSpaces();
    const bool negative = Sign();
    std::optional<ExactNumber> n = Decimal();
    SkipSpaces();
    if (!n || !Take("}")) return std::nullopt;
    if (n->numerator != "0") n->negative = negative;
    return n;
  }

  static std::optional<ExactNumber> Divide(const ExactNumber& a, const ExactNumber& b) {
    if (b.numerator == "0") return std::nullopt;
    if (a.numerator.size() > kMaxFractionDigits || b.numerator.size() > kMaxFractionDigits) {
      return std::nullopt;
    }
    ExactNumber n;
    n.negative = a.negative != b.negative;
    n.numerator = a.numerator;
    n.denominator = b.numerator;
    n.exponent = a.exponent - b.exponent;
    return Canonical(std::move(n));
  }

  // 1 1/2. Only a proper fraction of two integers follows a whole number; 2\frac{3}{2} might as
  // well be a product.
  static std::optional<ExactNumber> Mixed(std::string_view whole, const ExactNumber& fraction) {
    if (whole.size() > kMaxFractionDigits || fraction.negative) return std::nullopt;
    if (std::abs(fraction.exponent) > static_cast<int64_t>(kMaxFractionDigits)) return std::nullopt;
    std::string top = fraction.numerator, bottom = fraction.denominator;
    (fraction.exponent >= 0 ? top : bottom).append(std::abs(fraction.exponent), '0');
    if (top.size() > bottom.size() || (top.size() == bottom.size() && top >= bottom)) {
      return std::nullopt;
    }
    ExactNumber n;
    n.numerator = MultiplyAdd(whole, bottom, top);
    n.denominator = bottom;
    return Canonical(std::move(n));
  }

  std::string_view rest_;
};

}  // namespace

bool SameValue(const ExactNumber& a, const ExactNumber& b) {
  if (a.numerator == "0" || b.numerator == "0") return a.numerator == b.numerator;
  if (a.negative != b.negative) return false;
  if (a.denominator == b.denominator) {
    return a.numerator == b.numerator && a.exponent == b.exponent;
  }
  // A fraction on at least one side: compare the cross products. A decimal that equals a fraction
  // of n-digit integers has fewer than 5n significant digits (1/2^j = 5^j/10^j is the worst), so
  // anything longer differs, and the products stay small.
  const size_t longest = 5 * kMaxFractionDigits;
  for (const ExactNumber* n : {&a, &b}) {
    if (n->numerator.size() > longest || n->denominator.size() > longest) return false;
  }
  ExactNumber left, right;
  left.numerator = MultiplyAdd(a.numerator, b.denominator, "");
  left.exponent = a.exponent;
  right.numerator = MultiplyAdd(b.numerator, a.denominator, "");
  right.exponent = b.exponent;
  left = Canonical(std::move(left));
  right = Canonical(std::move(right));
  return left.numerator == right.numerator && left.exponent == right.exponent;
}

std::optional<Quantity> ParseQuantity(std::string_view text) {
  if (text.size() > kMaxNumberBytes) return std::nullopt;
  Reader reader(text);
  reader.SkipSpaces();
  std::optional<ExactNumber> value = reader.Magnitude();
  if (!value) return std::nullopt;
  Quantity quantity{std::move(*value), ""};
  const bool spaced = reader.rest().starts_with(' ');
  reader.SkipSpaces();
  if (reader.Take("%") || reader.Take("percent")) {
    if (quantity.value.numerator != "0") quantity.value.exponent -= 2;
    reader.SkipSpaces();
    return reader.rest().empty() ? std::optional(std::move(quantity)) : std::nullopt;
  }
  if (reader.rest().empty()) return quantity;
  std::optional<std::string> unit = ParseUnit(reader.rest(), spaced);
  if (!unit) return std::nullopt;
  quantity.unit = std::move(*unit);
  return quantity;
}

}  // namespace tramontane
