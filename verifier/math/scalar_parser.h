// Sums, products, powers, functions, brackets and matrices: the arithmetic part of parser.h.
#pragma once

#include <string>

#include "verifier/math/expr.h"
#include "verifier/math/token_reader.h"

namespace tramontane::math {

// One pass over the tokens with one reading of every ±. Members return null when what follows is
// not what they read; the cursor is then of no use any more.
class ScalarParser {
 public:
  ScalarParser(const std::vector<Token>& tokens, bool minus) : in_(tokens), minus_(minus) {}
  virtual ~ScalarParser() = default;

  ExprPtr Additive();
  bool saw_plus_minus() const { return saw_plus_minus_; }

 protected:
  // What stands between brackets: lists, sets, relations.
  virtual ExprPtr Bracketed(const std::string& open) = 0;

  TokenReader in_;
  int depth_ = 0;

 private:
  ExprPtr Multiplicative();
  ExprPtr Unary();
  ExprPtr Juxtaposed(bool stop_at_functions);
  ExprPtr Postfix();
  ExprPtr WithPowers(ExprPtr base);
  ExprPtr Primary();
  ExprPtr Command();
  ExprPtr NumberToken();
  ExprPtr NameToken();
  std::string Subscript();
  ExprPtr Argument();          // {…}, or one token; of a number one digit
  ExprPtr Exponent();
  ExprPtr Fenced(const std::string& close, bool command);
  ExprPtr AbsoluteValue();
  ExprPtr Root();
  ExprPtr Function(const std::string& name);
  ExprPtr FunctionArgument();
  ExprPtr CallOf(const std::string& name, ExprPtr argument, ExprPtr base);
  ExprPtr ManyArguments(const std::string& name);
  ExprPtr SumOrProduct(const std::string& name);
  ExprPtr Integral();
  ExprPtr Limit();
  ExprPtr Matrix();
  std::string Environment();   // {pmatrix}
  bool StartsFactor(bool functions_too) const;

  const bool minus_;
  bool saw_plus_minus_ = false;
  int bars_ = 0;
};

}  // namespace tramontane::math
