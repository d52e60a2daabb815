// Answers made to waste time or memory. Everything here ends in milliseconds; the bound is loose
// only because sanitised builds on a shared machine are slow.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/clock.h"
#include "verifier/grader.h"
#include "verifier/math/answer.h"

namespace tramontane {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kMegabyte = 1 << 16;  // the same shapes; every byte costs twenty times as much
constexpr int kRandomTexts = 2000;
#else
constexpr size_t kMegabyte = 1 << 20;
constexpr int kRandomTexts = 20000;
#endif
constexpr double kMostSeconds = 2.0;

std::string Repeat(const std::string& piece, size_t bytes) {
  std::string out;
  out.reserve(bytes + piece.size());
  while (out.size() < bytes) out += piece;
  return out;
}

std::vector<std::string> HostileAnswers() {
  std::vector<std::string> answers = {
      "9^9^9^9^9^9^9", "9^{9^{9^{9^{9}}}}", "10^{10^{10}}", "1e999999999", "1e-999999999",
      "10^{999999999999999999999999}", "99999999999!", "\\sqrt{" + Repeat("\\sqrt{", 1000),
      Repeat("9^", kMegabyte) + "9", Repeat("{", kMegabyte), Repeat("}", kMegabyte),
      Repeat("(", kMegabyte), Repeat("(", kMegabyte / 2) + "1" + Repeat(")", kMegabyte / 2),
      Repeat("\\frac{", kMegabyte), Repeat("\\boxed{", kMegabyte),
      Repeat("\\boxed{", kMegabyte / 2) + "1" + Repeat("}", kMegabyte / 14),
      Repeat("9", kMegabyte), Repeat("9", kMegabyte / 2) + "/" + Repeat("7", kMegabyte / 2),
      Repeat("1,", kMegabyte), Repeat("1,111,", kMegabyte), Repeat("1/3,", kMegabyte),
      Repeat(" ", kMegabyte), Repeat("\\", kMegabyte), Repeat("\\text{", kMegabyte),
      Repeat("1e9,", kMegabyte), Repeat("$", kMegabyte), Repeat("x=", kMegabyte),
      Repeat("<think>", kMegabyte), Repeat("</think>", kMegabyte), Repeat("0", kMegabyte),
      "0." + Repeat("0", kMegabyte) + "1", Repeat("5 cm ", kMegabyte), Repeat("-", kMegabyte),
      "1/" + Repeat("3", 1999), Repeat("7", 2000) + "/" + Repeat("3", 2000),
      std::string("\0\0\0", 3), "\xff\xfe\xf0\x9f", Repeat("\xc2", kMegabyte)};
  return answers;
}

TEST(HostileInputTest, EveryPairOfAnswersEndsFast) {
  const std::string golds[] = {"5", "1/3", "1,2,3", Repeat("9", 1000), "x+1",
                               Repeat("3", 2000) + "/" + Repeat("7", 2000)};
  for (const std::string& answer : HostileAnswers()) {
    for (const std::string& gold : golds) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_FALSE(math::SameMathAnswer(gold, answer)) << gold << " " << answer.substr(0, 40);
      EXPECT_LT(SecondsSince(start), kMostSeconds) << gold << " " << answer.substr(0, 40);
    }
  }
}

TEST(HostileInputTest, WholeCompletionsEndFastAndAreScored) {
  auto grader = MakeBuiltinGrader("math", RewardSection{});
  ASSERT_TRUE(grader.ok());
  for (const std::string& answer : HostileAnswers()) {
    for (const std::string& completion :
         {answer, "<think>" + answer, "<think>" + answer + "</think>\\boxed{" + answer + "}"}) {
      GradeRequest request;
      request.completion = completion;
      request.answer = "5";
      const auto start = std::chrono::steady_clock::now();
      const Verdict verdict = (*grader)->Grade(request);
      EXPECT_LT(SecondsSince(start), kMostSeconds) << completion.substr(0, 40);
      EXPECT_EQ(verdict.status, VerdictStatus::kScored);
      EXPECT_FALSE(verdict.correct);
      ASSERT_TRUE(verdict.score);
      EXPECT_LE(*verdict.score, 0.1);
    }
  }
}

TEST(HostileInputTest, AHugeAnswerThatIsRightIsStillRight) {
  const std::string digits = Repeat("987654321", kMegabyte / 2);
  EXPECT_TRUE(math::SameMathAnswer(digits, "+" + digits + ".0"));
  std::string other = digits;
  other[other.size() / 2] ^= 1;
  EXPECT_FALSE(math::SameMathAnswer(digits, other));
}

TEST(HostileInputTest, RandomBytesNeverMatchAndNeverCrash) {
  std::mt19937 random(3);
  const std::string alphabet = "0123456789.,/\\{}()[]-+eE^%$ =xfracbodt\xc2\xb0\xb2\n";
  std::uniform_int_distribution<size_t> pick(0, alphabet.size() - 1), length(0, 40);
  auto grader = MakeBuiltinGrader("math", RewardSection{});
  ASSERT_TRUE(grader.ok());
  for (int i = 0; i < kRandomTexts; ++i) {
    std::string text(length(random), ' ');
    for (char& c : text) c = alphabet[pick(random)];
    EXPECT_FALSE(math::SameMathAnswer("gold that no random text spells", text)) << text;
    (void)(*grader)->CheckRow(text, Json::object());
    GradeRequest request;
    request.completion = "<think>" + text + "</think>\\boxed{" + text + "}";
    request.answer = text;
    const Verdict verdict = (*grader)->Grade(request);
    EXPECT_EQ(verdict.status, VerdictStatus::kScored);
  }
}

}  // namespace
}  // namespace tramontane
