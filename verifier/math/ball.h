// Values in ball arithmetic (the Arb library, Johansson 2017): a complex number together with a
// bound on its error, at any precision. So "these two differ" is a proof, and "these two agree to
// 2^-100" is known to be just that.
#pragma once

#include <acb.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "verifier/math/expr.h"

namespace tramontane::math {

class Ball {
 public:
  Ball() { acb_init(value_); }
  ~Ball() { acb_clear(value_); }
  Ball(const Ball& other) {
    acb_init(value_);
    acb_set(value_, other.value_);
  }
  Ball& operator=(const Ball& other) {
    acb_set(value_, other.value_);
    return *this;
  }
  acb_ptr get() { return value_; }
  acb_srcptr get() const { return value_; }

 private:
  acb_t value_;
};

// Work that one comparison may cost: a node evaluated at 128 bits costs one unit. Counted, not
// timed, so that a verdict is the same on any machine; all of it is some 50 ms of work.
class Budget {
 public:
  explicit Budget(int64_t units = 20000) : left_(units) {}
  bool Spend(int64_t units) { return (left_ -= units) >= 0; }
  bool spent() const { return left_ < 0; }

 private:
  int64_t left_;
};

// Values of symbols, and of functions nobody defined, by their Key().
using Binding = std::function<void(const std::string& key, acb_ptr out, slong precision)>;

// False when the expression has no finite value here, is no scalar, or the budget is spent.
bool Evaluate(const Expr& e, const Binding& binding, slong precision, Budget& budget, acb_ptr out);

}  // namespace tramontane::math
