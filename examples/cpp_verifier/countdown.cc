// A verifier in C++: does the answer make the target out of the numbers? {"params": {"numbers": [3,
// 5, 7, 2], "target": 24}}, answered by an expression with + - * / and parentheses that uses each
// number at most once. Half a point for a sound expression that misses the target.
//
//   countdown-verifier test examples/cpp_verifier/countdown_cases.jsonl
//   countdown-verifier serve --bind 127.0.0.1:7001
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "verifier/sdk/cpp/verifier_sdk.h"

namespace {

using tramontane::GradeRequest;
using tramontane::Json;
using tramontane::Score;

constexpr int kMaxDepth = 50;

// sum = product {+|- product}, product = factor {*|/ factor}, factor = number | ( sum ). A value
// that is NaN stands for what cannot be read.
class Calculator {
 public:
  explicit Calculator(std::string_view text) : text_(text) {}

  double Value() {
    const double value = Sum(0);
    return Peek() == '\0' ? value : std::nan("");
  }
  const std::vector<double>& used() const { return used_; }

 private:
  char Peek() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  double Sum(int depth) {
    double value = Product(depth);
    while (Peek() == '+' || Peek() == '-') {
      const char sign = text_[at_++];
      const double other = Product(depth);
      value = sign == '+' ? value + other : value - other;
    }
    return value;
  }
  double Product(int depth) {
    double value = Factor(depth);
    while (Peek() == '*' || Peek() == '/') {
      const char sign = text_[at_++];
      const double other = Factor(depth);
      value = sign == '*' ? value * other : value / other;
    }
    return value;
  }
  double Factor(int depth) {
    if (Peek() == '(' && depth < kMaxDepth) {
      ++at_;
      const double value = Sum(depth + 1);
      if (Peek() != ')') return std::nan("");
      ++at_;
      return value;
    }
    std::string digits;
    Peek();
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9' && digits.size() < 9) {
      digits += text_[at_++];
    }
    if (digits.empty()) return std::nan("");
    used_.push_back(std::atof(digits.c_str()));
    return used_.back();
  }

  const std::string_view text_;
  size_t at_ = 0;
  std::vector<double> used_;
};

// Whether every number is used at most once, and no other.
bool Allowed(const std::vector<double>& used, std::vector<double> numbers) {
  for (const double number : used) {
    const auto it = std::find(numbers.begin(), numbers.end(), number);
    if (it == numbers.end()) return false;
    numbers.erase(it);
  }
  return true;
}

absl::Status CheckRow(const std::string&, const Json& params) {
  const auto numbers = params.find("numbers");
  const auto target = params.find("target");
  const bool sound = numbers != params.end() && numbers->is_array() && !numbers->empty() &&
                     std::ranges::all_of(*numbers, [](const Json& n) { return n.is_number(); }) &&
                     target != params.end() && target->is_number();
  return sound ? absl::OkStatus()
               : absl::InvalidArgumentError("params: need `numbers` and `target`");
}

absl::StatusOr<Score> Countdown(const GradeRequest& request) {
  const std::string tag = "</think>";
  const size_t thoughts = request.completion.rfind(tag);
  Score score;
  score.extracted =
      thoughts == std::string::npos ? "" : request.completion.substr(thoughts + tag.size());
  const size_t end = score.extracted.find_last_not_of(" \n");
  score.extracted.resize(end == std::string::npos ? 0 : end + 1);
  score.extracted.erase(0, score.extracted.find_first_not_of(" \n"));
  Calculator calculator(score.extracted);
  const double value = calculator.Value();
  const double target = request.params["target"].get<double>();
  const bool sound =
      std::isfinite(value) &&
      Allowed(calculator.used(), request.params["numbers"].get<std::vector<double>>());
  const bool right = sound && std::abs(value - target) < 1e-9;
  score.components = {{"sound", sound ? 0.5 : 0}, {"right", right ? 0.5 : 0}};
  score.reward = (sound ? 0.5 : 0) + (right ? 0.5 : 0);
  if (sound) score.metrics = {{"distance", std::abs(value - target)}};
  return score;
}

}  // namespace

int main(int argc, char** argv) {
  return tramontane::VerifierMain(argc, argv,
                                  {.name = "countdown",
                                   .version = "1.0.0",
                                   .score = Countdown,
                                   .check_row = CheckRow,
                                   .components = {"sound", "right"}});
}
