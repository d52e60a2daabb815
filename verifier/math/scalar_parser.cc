#include "verifier/math/scalar_parser.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "verifier/math/word_table.h"

namespace tramontane::math {
namespace {

using std::string_view;

constexpr size_t kMaxLiteralExponent = 4000;  // of 1.5E300: beyond it, text is compared

constexpr string_view kFunctions[] = {
    "sin",  "cos",  "tan",  "cot",   "sec",  "csc",   "asin",  "acos",  "atan", "acot",
    "asec", "acsc", "sinh", "cosh",  "tanh", "asinh", "acosh", "atanh", "log",  "ln",
    "lg",   "exp",  "det",  "floor", "ceil", "sgn",   "tr",    "trace", "rank", "arg"};
constexpr string_view kManyArguments[] = {"max", "min", "gcd", "lcm"};
// Letters that stand for functions when brackets follow them.
constexpr string_view kFunctionLetters = "fgh";

bool IsFunction(const Token& token) {
  return token.type == TokenType::kCommand &&
         (Contains(kFunctions, token.text) || Contains(kManyArguments, token.text) ||
          token.text == "sum" || token.text == "prod" || token.text == "int" ||
          token.text == "lim");
}

// Digits with at most one point and an exponent.
ExprPtr ReadNumber(const std::string& text) {
  const size_t e = text.find_first_of("eE");
  const std::string mantissa = text.substr(0, e);
  const size_t point = mantissa.find('.');
  std::string digits = mantissa;
  long scale = 0;
  if (point != mantissa.npos) {
    digits.erase(point, 1);
    scale = static_cast<long>(mantissa.size() - point - 1);
  }
  if (e != text.npos) {
    if (text.size() - e > 8) return nullptr;
    scale -= std::stol(text.substr(e + 1));
  }
  if (static_cast<size_t>(std::labs(scale)) > kMaxLiteralExponent + digits.size()) return nullptr;
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, static_cast<unsigned long>(std::labs(scale)));
  mpq_class value = scale > 0 ? mpq_class(mpz_class(digits, 10), power)
                              : mpq_class(mpz_class(digits, 10) * power);
  value.canonicalize();
  return Number(std::move(value), point != mantissa.npos || e != text.npos);
}

}  // namespace

ExprPtr ScalarParser::Additive() {
  if (++depth_ > kMaxDepth) return nullptr;
  ExprPtr first = Multiplicative();
  if (!first) return nullptr;
  Exprs terms = {std::move(first)};
  while (true) {
    bool negative = false;
    if (in_.TakeSign("-")) {
      negative = true;
    } else if (in_.TakeCommand("pm")) {
      saw_plus_minus_ = true;
      negative = minus_;
    } else if (!in_.TakeSign("+")) {
      break;
    }
    ExprPtr term = Multiplicative();
    if (!term || IsSetLike(*term) || IsSetLike(*terms.front())) return nullptr;
    terms.push_back(negative ? Negative(std::move(term)) : std::move(term));
  }
  --depth_;
  if (in_.TakeCommand("choose")) {  // {n \choose k}
    ExprPtr lower = Additive();
    if (!lower || terms.size() > 1 || IsSetLike(*lower) || IsSetLike(*terms.front())) return nullptr;
    return Make(Kind::kCall, {terms.front(), std::move(lower)}, "binomial");
  }
  if (terms.size() == 1) return terms.front();
  Exprs flat;
  for (ExprPtr& term : terms) {
    if (term->kind == Kind::kSum) {
      flat.insert(flat.end(), term->args.begin(), term->args.end());
    } else {
      flat.push_back(std::move(term));
    }
  }
  return Make(Kind::kSum, std::move(flat));
}

ExprPtr ScalarParser::Multiplicative() {
  ExprPtr left = Unary();
  while (left) {
    if (in_.TakeSign("*")) {
      ExprPtr right = Unary();
      if (!right) return nullptr;
      left = Product(std::move(left), std::move(right));
    } else if (in_.IsSign("/") || in_.IsSign(":")) {
      in_.Skip();
      ExprPtr right = Unary();
      if (!right) return nullptr;
      left = Quotient(std::move(left), std::move(right));
    } else if (in_.IsCommand("mod") || in_.IsCommand("bmod")) {
      in_.Skip();
      ExprPtr right = Unary();
      if (!right) return nullptr;
      left = Make(Kind::kCall, {std::move(left), std::move(right)}, "mod");
    } else {
      break;
    }
  }
  return left;
}

ExprPtr ScalarParser::Unary() {
  bool negative = false;
  while (true) {
    if (in_.TakeSign("-")) {
      negative = !negative;
    } else if (in_.TakeCommand("pm")) {
      saw_plus_minus_ = true;
      if (minus_) negative = !negative;
    } else if (!in_.TakeSign("+")) {
      break;
    }
  }
  ExprPtr value = Juxtaposed(/*stop_at_functions=*/false);
  return value && negative ? (IsSetLike(*value) ? nullptr : Negative(std::move(value))) : value;
}

bool ScalarParser::StartsFactor(bool functions_too) const {
  const Token* token = in_.Peek();
  if (token == nullptr) return false;
  if (token->type == TokenType::kNumber || token->type == TokenType::kName) return true;
  if (token->type == TokenType::kSign) {
    if (token->text == "|") return bars_ == 0;
    return token->text == "(" || token->text == "{" || token->text == "[" || token->text == "\\{";
  }
  if (IsFunction(*token)) return functions_too;
  static constexpr string_view kOthers[] = {"frac",  "sqrt",   "binom", "pi",    "e",       "i",
                                            "infty", "lfloor", "lceil", "begin", "emptyset"};
  return Contains(kOthers, token->text) ||
         (token->text.size() == 4 && token->text.starts_with("set"));
}

ExprPtr ScalarParser::Juxtaposed(bool stop_at_functions) {
  if (++depth_ > kMaxDepth) return nullptr;
  ExprPtr first = Postfix();
  if (!first) return nullptr;
  Exprs factors = {std::move(first)};
  while (StartsFactor(!stop_at_functions)) {
    ExprPtr next = Postfix();
    if (!next) return nullptr;
    const Expr& last = *factors.back();
    if (last.kind == Kind::kNumber && next->kind == Kind::kNumber) {
      // 2\frac12; two written numbers side by side are a mistake.
      if (!IsInteger(last) || next->decimal || IsInteger(*next) || next->value < 0) return nullptr;
      factors.back() = Number(last.value + next->value);
      continue;
    }
    if (IsSetLike(*next) || IsSetLike(last)) return nullptr;
    factors.push_back(std::move(next));
  }
  --depth_;
  ExprPtr product = factors.front();
  for (size_t i = 1; i < factors.size(); ++i) product = Product(product, factors[i]);
  return product;
}

ExprPtr ScalarParser::Postfix() {
  ExprPtr value = Primary();
  for (int i = 0; value; ++i) {
    if (i > kMaxDepth) return nullptr;
    value = WithPowers(std::move(value));
    if (!value) return nullptr;
    if (in_.TakeSign("!")) {
      value = Make(Kind::kCall, {std::move(value)}, "factorial");
    } else if (in_.TakeSign("%")) {
      value = Make(Kind::kPercent, {std::move(value)});
    } else if (in_.TakeSign("'")) {
      value = Make(Kind::kCall, {std::move(value)}, "prime");
    } else if (in_.IsCommand("circ")) {
      in_.Skip();  // degrees are the unit of angles
    } else if (!in_.IsSign("^")) {
      break;
    }
  }
  return value;
}

ExprPtr ScalarParser::WithPowers(ExprPtr base) {
  for (int i = 0; in_.IsSign("^"); ++i) {
    if (i > kMaxDepth) return nullptr;  // x^2^2^2…: nested without a bracket
    if (in_.Peek(1) != nullptr && in_.Peek(1)->type == TokenType::kCommand &&
        in_.Peek(1)->text == "circ") {
      in_.Skip();
      in_.Skip();
      continue;
    }
    if (in_.IsSign("{", 1) && in_.Peek(2) != nullptr && in_.Peek(2)->text == "circ" &&
        in_.IsSign("}", 3)) {
      for (int i = 0; i < 4; ++i) in_.Skip();
      continue;
    }
    in_.Skip();
    ExprPtr exponent = Exponent();
    if (!exponent || IsSetLike(*base) || IsSetLike(*exponent)) return nullptr;
    base = Make(Kind::kPower, {std::move(base), std::move(exponent)});
  }
  return base;
}

ExprPtr ScalarParser::Exponent() {
  const bool negative = in_.TakeSign("-");
  const Token* token = in_.Peek();
  if (token == nullptr) return nullptr;
  ExprPtr exponent = token->type == TokenType::kNumber ? NumberToken() : Argument();
  return exponent && negative ? Negative(std::move(exponent)) : exponent;
}

ExprPtr ScalarParser::Argument() {
  const Token* token = in_.Peek();
  if (token == nullptr) return nullptr;
  if (token->type == TokenType::kNumber) return NumberToken();
  if (token->type == TokenType::kName) return NameToken();
  if (in_.TakeSign("{")) return Fenced("}", false);
  return Primary();
}

ExprPtr ScalarParser::Fenced(const std::string& close, bool command) {
  const int bars = std::exchange(bars_, 0);
  ExprPtr inside = Additive();
  bars_ = bars;
  const bool closed = command ? in_.TakeCommand(close) : in_.TakeSign(close);
  return closed ? inside : nullptr;
}

ExprPtr ScalarParser::Primary() {
  const Token* token = in_.Peek();
  if (token == nullptr) return nullptr;
  switch (token->type) {
    case TokenType::kNumber:
      return NumberToken();
    case TokenType::kName:
      return NameToken();
    case TokenType::kCommand:
      return Command();
    case TokenType::kSign:
      break;
  }
  if (token->text == "|") return AbsoluteValue();
  static constexpr string_view kOpening[] = {"(", "[", "{", "\\{"};
  if (!Contains(kOpening, token->text)) return nullptr;
  const int bars = std::exchange(bars_, 0);
  ExprPtr inside = Bracketed(token->text);
  bars_ = bars;
  return inside;
}

ExprPtr ScalarParser::NumberToken() {
  ExprPtr number = ReadNumber(in_.Peek()->text);
  in_.Skip();
  if (in_.IsSign("_")) Subscript();  // a base: 101_2 is compared as it is written
  return number;
}

std::string ScalarParser::Subscript() {
  std::string text;
  if (!in_.TakeSign("_") || in_.AtEnd()) return text;
  if (!in_.IsSign("{")) {
    text = in_.Peek()->text;
    in_.Skip();
    return text;
  }
  int depth = 0;
  do {
    if (in_.IsSign("{")) ++depth;
    if (in_.IsSign("}")) --depth;
    if (!in_.IsSign("{") && !in_.IsSign("}")) text += in_.Peek()->text;
    in_.Skip();
  } while (depth > 0 && !in_.AtEnd());
  return text;
}

ExprPtr ScalarParser::NameToken() {
  std::string name = in_.Peek()->text;
  in_.Skip();
  if (in_.IsSign("_")) name += "_" + Subscript();
  if (!in_.IsSign("(")) return Named(Kind::kSymbol, std::move(name));
  const size_t before = in_.at();
  const bool function =
      kFunctionLetters.find(name.front()) != string_view::npos && name.size() == 1;
  ExprPtr arguments = Bracketed("(");
  if (!arguments) return nullptr;
  const bool list = arguments->kind == Kind::kInterval || arguments->kind == Kind::kTuple;
  if (function || list) {
    Exprs args = list ? arguments->args : Exprs{arguments};
    return Make(Kind::kCall, std::move(args), std::move(name));
  }
  in_.Seek(before);
  return Named(Kind::kSymbol, std::move(name));
}

ExprPtr ScalarParser::AbsoluteValue() {
  in_.Skip();
  ++bars_;
  ExprPtr inside = Additive();
  --bars_;
  if (!inside || !in_.TakeSign("|") || IsSetLike(*inside)) return nullptr;
  return Make(Kind::kCall, {std::move(inside)}, "abs");
}

ExprPtr ScalarParser::Command() {
  const std::string name = in_.Peek()->text;
  if (name == "begin") return Matrix();
  in_.Skip();
  if (name == "pi" || name == "e" || name == "i") return Named(Kind::kConstant, name);
  if (name == "infty") return Named(Kind::kConstant, "infinity");
  if (name == "emptyset") return Make(Kind::kSet, {});
  if (name == "setR") {
    return IntervalOf(Negative(Named(Kind::kConstant, "infinity")),
                      Named(Kind::kConstant, "infinity"), true, true);
  }
  if (name.size() == 4 && name.starts_with("set")) return Named(Kind::kNamedSet, name.substr(3));
  if (name == "sqrt") return Root();
  if (name == "frac" || name == "binom") {
    ExprPtr upper = Argument();
    ExprPtr lower = upper ? Argument() : nullptr;
    if (!lower || IsSetLike(*upper) || IsSetLike(*lower)) return nullptr;
    if (name == "frac") return Quotient(std::move(upper), std::move(lower));
    return Make(Kind::kCall, {std::move(upper), std::move(lower)}, "binomial");
  }
  for (const auto& [open, close, function] :
       {std::tuple{"lfloor", "rfloor", "floor"}, std::tuple{"lceil", "rceil", "ceil"}}) {
    if (name != open) continue;
    ExprPtr inside = Fenced(close, true);
    return inside ? Make(Kind::kCall, {std::move(inside)}, function) : nullptr;
  }
  if (name == "sum" || name == "prod") return SumOrProduct(name);
  if (name == "int") return Integral();
  if (name == "lim") return Limit();
  if (Contains(kManyArguments, name)) return ManyArguments(name);
  if (Contains(kFunctions, name)) return Function(name);
  return nullptr;
}

ExprPtr ScalarParser::Root() {
  ExprPtr degree;
  if (in_.TakeSign("[")) {
    degree = Fenced("]", false);
    if (!degree) return nullptr;
  }
  ExprPtr radicand = in_.IsSign("(") ? Primary() : Argument();
  if (!radicand || IsSetLike(*radicand)) return nullptr;
  ExprPtr exponent = Quotient(Number(1), degree ? std::move(degree) : Number(2));
  return Make(Kind::kPower, {std::move(radicand), std::move(exponent)});
}

// \sin x, \sin^2 x, \sin(x), \log_2 8.
ExprPtr ScalarParser::Function(const std::string& name) {
  ExprPtr base, power;
  for (int i = 0; i < 2; ++i) {
    if (in_.TakeSign("_")) {
      base = Argument();
      if (!base) return nullptr;
    } else if (in_.TakeSign("^")) {
      power = Exponent();
      if (!power) return nullptr;
    }
  }
  ExprPtr argument = FunctionArgument();
  if (!argument || IsSetLike(*argument) || argument->kind == Kind::kTuple) return nullptr;
  static constexpr string_view kInvertible[] = {"sin", "cos",  "tan",  "cot", "sec",
                                                "csc", "sinh", "cosh", "tanh"};
  if (power && power->kind == Kind::kNumber && power->value == -1 && Contains(kInvertible, name)) {
    return Make(Kind::kCall, {std::move(argument)}, "a" + name);
  }
  ExprPtr call = CallOf(name, std::move(argument), std::move(base));
  return power ? Make(Kind::kPower, {std::move(call), std::move(power)}) : call;
}

ExprPtr ScalarParser::FunctionArgument() {
  if (in_.IsSign("(") || in_.IsSign("{")) return Primary();
  const bool negative = in_.TakeSign("-");
  ExprPtr argument = Juxtaposed(/*stop_at_functions=*/true);
  return argument && negative ? Negative(std::move(argument)) : argument;
}

ExprPtr ScalarParser::CallOf(const std::string& name, ExprPtr argument, ExprPtr base) {
  if (name == "exp") {
    return Make(Kind::kPower, {Named(Kind::kConstant, "e"), std::move(argument)});
  }
  if (name == "ln") base = Named(Kind::kConstant, "e");
  if (name == "log" || name == "ln" || name == "lg") {
    if (!base) base = Number(10);
    return Make(Kind::kCall, {std::move(argument), std::move(base)}, "log");
  }
  return Make(Kind::kCall, {std::move(argument)}, name);
}

ExprPtr ScalarParser::ManyArguments(const std::string& name) {
  ExprPtr list;
  if (in_.IsSign("(") || in_.IsSign("\\{")) list = Primary();
  if (!list) return nullptr;
  Exprs args = list->args;
  if (!IsSetLike(*list) && list->kind != Kind::kTuple) args = {list};
  return Make(Kind::kCall, std::move(args), name);
}

// \sum_{k=1}^{n} term: (term, index, first, last).
ExprPtr ScalarParser::SumOrProduct(const std::string& name) {
  if (!in_.TakeSign("_") || !in_.TakeSign("{")) return nullptr;
  const Token* token = in_.Peek();
  if (token == nullptr || (token->type != TokenType::kName && token->text != "i")) return nullptr;
  ExprPtr index = token->type == TokenType::kName ? Named(Kind::kSymbol, token->text)
                                                  : Named(Kind::kConstant, "i");
  in_.Skip();
  if (!in_.TakeSign("=")) return nullptr;
  ExprPtr first = Fenced("}", false);
  if (!first || !in_.TakeSign("^")) return nullptr;
  ExprPtr last = Exponent();
  ExprPtr term = last ? Multiplicative() : nullptr;
  if (!term) return nullptr;
  return Make(Kind::kCall, {std::move(term), std::move(index), std::move(first), std::move(last)},
              name);
}

// \int_a^b f dx: (f, x, a, b), or (f, x) without bounds. Probing has no value for it.
ExprPtr ScalarParser::Integral() {
  Exprs bounds;
  if (in_.TakeSign("_")) {
    bounds.push_back(Argument());
    if (!bounds[0] || !in_.TakeSign("^")) return nullptr;
    bounds.push_back(Exponent());
    if (!bounds[1]) return nullptr;
  }
  const auto is_name = [this](size_t ahead) {
    const Token* token = in_.Peek(ahead);
    return token != nullptr && token->type == TokenType::kName;
  };
  size_t length = 0;  // up to the last d of a variable
  for (size_t i = 0; in_.Peek(i) != nullptr; ++i) {
    if (is_name(i) && in_.Peek(i)->text == "d" && is_name(i + 1)) length = i;
  }
  if (!is_name(length + 1)) return nullptr;
  const size_t end = in_.EndAt(in_.at() + length);
  ExprPtr integrand = in_.AtEnd() ? Number(1) : Additive();
  const bool whole = in_.AtEnd();
  in_.EndAt(end);
  if (!integrand || !whole || IsSetLike(*integrand)) return nullptr;
  in_.Skip();
  Exprs args = {std::move(integrand), Named(Kind::kSymbol, in_.Peek()->text)};
  in_.Skip();
  args.insert(args.end(), bounds.begin(), bounds.end());
  return Make(Kind::kCall, std::move(args), "int");
}

// \lim_{x \to a} term: (term, x, a). Probing has no value for it.
ExprPtr ScalarParser::Limit() {
  if (!in_.TakeSign("_") || !in_.TakeSign("{")) return nullptr;
  const Token* token = in_.Peek();
  if (token == nullptr || token->type != TokenType::kName) return nullptr;
  ExprPtr variable = Named(Kind::kSymbol, token->text);
  in_.Skip();
  if (!in_.TakeCommand("to")) return nullptr;
  ExprPtr point = Fenced("}", false);
  ExprPtr term = point ? Multiplicative() : nullptr;
  if (!term || IsSetLike(*term)) return nullptr;
  return Make(Kind::kCall, {std::move(term), std::move(variable), std::move(point)}, "lim");
}

std::string ScalarParser::Environment() {
  std::string name;
  if (!in_.TakeSign("{")) return name;
  while (!in_.AtEnd() && !in_.IsSign("}")) {
    name += in_.Peek()->text;
    in_.Skip();
  }
  in_.TakeSign("}");
  return name;
}

ExprPtr ScalarParser::Matrix() {
  in_.Skip();
  const std::string environment = Environment();
  const bool determinant = environment == "vmatrix";
  if (environment == "array") {
    if (!in_.IsSign("{")) return nullptr;
    Environment();  // the alignment of the columns
  } else if (environment != "matrix" && environment != "pmatrix" && environment != "bmatrix" &&
             environment != "smallmatrix" && !determinant) {
    return nullptr;
  }
  Exprs cells;
  size_t columns = 0, in_row = 0;
  while (true) {
    if (in_.IsCommand("end")) break;  // \\ before \end
    ExprPtr cell = Additive();
    if (!cell || IsSetLike(*cell)) return nullptr;
    cells.push_back(std::move(cell));
    ++in_row;
    if (in_.TakeSign("&")) continue;
    if (columns != 0 && in_row != columns) return nullptr;
    columns = in_row;
    in_row = 0;
    if (!in_.TakeSign("\\\\")) break;
  }
  if (!in_.TakeCommand("end") || Environment() != environment || columns == 0 || in_row != 0) {
    return nullptr;
  }
  auto matrix = std::make_shared<Expr>();
  matrix->kind = Kind::kMatrix;
  matrix->columns = columns;
  matrix->args = std::move(cells);
  if (determinant) return Make(Kind::kCall, {std::move(matrix)}, "det");
  return matrix;
}

}  // namespace tramontane::math
