// The second opinion: asked where probing cannot tell, over a child that is killed when it must be.
#include "verifier/algebra/algebra.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "verifier/grader.h"
#include "verifier/math/answer.h"

namespace tramontane {
namespace {

class AlgebraTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "algebra-test-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // An interpreter that is a shell script.
  std::unique_ptr<Algebra> Scripted(const std::string& script) {
    const std::string path = folder_ / "python";
    std::ofstream(path) << "#!/bin/sh\n" << script;
    chmod(path.c_str(), 0755);
    return std::make_unique<Algebra>(
        AlgebraOptions{.python = path, .version = "0", .start_timeout_s = 5}, metrics_);
  }

  int Count(const std::string& outcome) {
    const std::string line =
        "tramontane_verifier_algebra_opinions_total{outcome=\"" + outcome + "\"} ";
    const std::string text = metrics_.Render();
    const size_t at = text.find(line);
    return at == text.npos ? 0 : std::stoi(text.substr(at + line.size()));
  }

  std::filesystem::path folder_;
  MetricsRegistry metrics_;
};

constexpr char kTree[] = R"(["n","1"])";

TEST_F(AlgebraTest, RepliesAreOpinions) {
  const auto algebra = Scripted(
      "echo ready >&3\nfor said in true false null 17 nonsense; do read -r line <&3; echo $said >&3; "
      "done\n");
  EXPECT_EQ(algebra->pid(), std::nullopt) << "started when first asked";
  EXPECT_EQ(algebra->Same(kTree, kTree, 1), true);
  EXPECT_EQ(algebra->Same(kTree, kTree, 1), false);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(algebra->Same(kTree, kTree, 1), std::nullopt);
  EXPECT_EQ(Count("equal"), 1);
  EXPECT_EQ(Count("unequal"), 1);
  EXPECT_EQ(Count("undecided"), 3);
  EXPECT_EQ(Count("killed"), 0);
}

TEST_F(AlgebraTest, ChildrenThatSpinCrashOrChatterAreReplaced) {
  for (const char* script : {"echo ready >&3\nread -r line <&3\nwhile :; do :; done\n",
                             "echo ready >&3\nread -r line <&3\nexit 1\n",
                             "exit 1\n",
                             "echo ready >&3\nread -r line <&3\nwhile :; do printf xxxx >&3; done\n"}) {
    const int before = Count("killed");
    const auto algebra = Scripted(script);
    for (int i = 0; i < 2; ++i) {  // the second one asks a new child
      const auto start = std::chrono::steady_clock::now();
      EXPECT_EQ(algebra->Same(kTree, kTree, 0.2), std::nullopt) << script;
      EXPECT_LT(SecondsSince(start), 7) << script;
      EXPECT_EQ(algebra->pid(), std::nullopt) << script;
    }
    EXPECT_EQ(Count("killed"), before + 2) << script;
  }
  EXPECT_EQ(Algebra({.python = folder_ / "none", .version = "0"}, metrics_).Same(kTree, kTree, 1),
            std::nullopt);
}

TEST_F(AlgebraTest, AChildThatSleepsIsWaitedForByTheClockOnTheWall) {
  const auto algebra = Scripted("echo ready >&3\nread -r line <&3\nsleep 60\n");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(algebra->Same(kTree, kTree, 0.05), std::nullopt);
  EXPECT_GT(SecondsSince(start), 5);
  EXPECT_LT(SecondsSince(start), 20);
}

TEST_F(AlgebraTest, OnlyWhatProbingCannotTellIsAsked) {
  int asked = 0;
  math::AnswerOptions options;
  options.opinion = [&asked](const std::string&, const std::string&) {
    ++asked;
    return std::optional(true);
  };
  EXPECT_TRUE(math::SameMathAnswer("\\sin^2 x + \\cos^2 x", "1", options));
  EXPECT_FALSE(math::SameMathAnswer("x^2", "x^3", options));
  EXPECT_FALSE(math::SameMathAnswer("5", "6", options));
  EXPECT_EQ(asked, 0);
  EXPECT_TRUE(math::SameMathAnswer("x^{9^{9^9}}", "y^{9^{9^{9}}}", options));
  EXPECT_EQ(asked, 1);
  options.doubts_difference = true;
  EXPECT_TRUE(math::SameMathAnswer("x^2", "x^3", options));
  EXPECT_EQ(asked, 2);
  EXPECT_FALSE(math::SameMathAnswer("5", "6", options)) << "numbers leave no doubt";
  EXPECT_EQ(asked, 2);
  std::string many = "x_1^9", other = "y_1^9";
  for (int i = 2; i < 50; ++i) {
    many += ",x_{" + std::to_string(i) + "}^9";
    other += ",y_{" + std::to_string(i) + "}^9";
  }
  asked = 0;
  math::SameMathAnswer(many, other, options);
  EXPECT_LE(asked, math::kMostOpinions);
}

TEST_F(AlgebraTest, TheMathGraderSaysWhetherItHasOne) {
  const auto without = *MakeBuiltinGrader("math", RewardSection{});
  EXPECT_EQ(without->notes(), std::vector<std::string>{"computer algebra: none"});
  EXPECT_TRUE(without->pure());
  const std::shared_ptr<Algebra> algebra = Scripted("exit 1\n");
  const auto with = *MakeBuiltinGrader("math", RewardSection{}, {.algebra = algebra});
  EXPECT_EQ(with->notes(), std::vector<std::string>{"computer algebra: SymPy 0"});
  EXPECT_FALSE(with->pure());
  EXPECT_NE(with->digest(), without->digest());
  GradeRequest request;
  request.completion = "x^{9^{9^9}}";
  request.answer = "y^{9^{9^9}}";
  EXPECT_EQ(with->GradeBare(request).score, 0) << "it goes on without an opinion";
  for (const Json& params : {Json{{"algebra", "always"}}, Json{{"algebra_timeout_s", 0}},
                             Json{{"algebra_timeout_s", 60}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(with->CheckRow("1", params))) << params;
  }
}

// The rest needs an environment with SymPy (deps/make-python-verifier.sh).
class SympyTest : public AlgebraTest {
 protected:
  void SetUp() override {
    AlgebraTest::SetUp();
    const absl::StatusOr<AlgebraOptions> found = FindAlgebra();
    if (!found.ok()) GTEST_SKIP() << found.status();
    options_ = *found;
    algebra_ = std::make_unique<Algebra>(options_, metrics_);
  }

  bool Same(const std::string& gold, const std::string& answer) {
    math::AnswerOptions options;
    options.opinion = [this](const std::string& a, const std::string& b) {
      return algebra_->Same(a, b, 2);
    };
    return math::SameMathAnswer(gold, answer, options);
  }

  AlgebraOptions options_;
  std::unique_ptr<Algebra> algebra_;
};

TEST_F(SympyTest, DecidesWhatProbingCannot) {
  // Sums of more terms than probing adds up.
  EXPECT_TRUE(Same("\\sum_{k=1}^{10000} k", "50005000"));
  EXPECT_FALSE(Same("\\sum_{k=1}^{10000} k", "50005001"));
  EXPECT_TRUE(Same("\\sum_{k=1}^{10^{9}} k", "\\frac{10^9 (10^9+1)}{2}"));
  EXPECT_GE(Count("equal"), 2);
  EXPECT_GE(Count("unequal"), 1);
}

TEST_F(SympyTest, IntegralsLimitsAndInfiniteSumsHaveValues) {
  for (const auto& [gold, answer] : std::vector<std::pair<std::string, std::string>>{
           {"\\frac{1}{3}", "\\int_{0}^{1} x^2 \\, dx"},
           {"\\int_0^\\pi \\sin t \\,\\mathrm{d}t", "2"},
           {"\\int x dx", "\\frac{x^2}{2}"},
           {"\\lim_{x\\to0}\\frac{\\sin x}{x}", "1"},
           {"e", "\\lim_{n \\rightarrow \\infty}(1+\\frac1n)^n"},
           {"\\sum_{n=1}^{\\infty} \\frac{1}{n^2}", "\\frac{\\pi^2}{6}"},
           {"\\sum_{i=0}^{\\infty} \\frac{1}{2^i}", "2"}}) {
    EXPECT_TRUE(Same(gold, answer)) << gold << " = " << answer;
    EXPECT_FALSE(Same(gold, answer + "+1")) << gold << " = " << answer << " + 1";
    EXPECT_FALSE(math::SameMathAnswer(gold, answer)) << "probing has no value for it";
  }
}

TEST_F(SympyTest, PathologicalQuestionsEndByTheirDeadline) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(Same("x^{9^{9^{9^9}}}", "x^{9^{9^{9^8}}}"));
  EXPECT_FALSE(Same("9^{9^{9^{9^x}}}", "9^{9^{9^{8^x}}}"));
  EXPECT_FALSE(Same("(x^{9^9})!", "(x^{9^8})!"));
  EXPECT_FALSE(Same(std::string(1 << 20, '9'), "x" + std::string(1 << 20, '9')));
  std::string nested = "x";
  for (int i = 0; i < 25; ++i) nested = "(" + nested + "+1)^{(" + std::to_string(i) + "!)!}";
  EXPECT_FALSE(Same(nested, nested + "+1"));
  EXPECT_LT(SecondsSince(start), 60);
  EXPECT_TRUE(Same("\\sum_{k=1}^{10000} k", "50005000")) << "and the next one is answered";
}

TEST_F(SympyTest, MemoryIsBoundedAndADeadChildReplaced) {
  options_.memory_bytes = int64_t{256} << 20;
  Algebra small(options_, metrics_);
  const std::string sum = R"(["f","sum",["s","k"],["s","k"],["n","1"],["n","10000"]])";
  EXPECT_EQ(small.Same(sum, R"(["n","50005000"])", 5), true);
  ASSERT_TRUE(small.pid().has_value());
  kill(*small.pid(), SIGKILL);
  EXPECT_EQ(small.Same(sum, R"(["n","50005000"])", 5), std::nullopt);
  EXPECT_EQ(small.Same(sum, R"(["n","50005000"])", 5), true);
  // (x + 1)^1000 (x + 2)^1000 …: multiplied out it would not fit.
  std::string product = R"(["*")";
  for (int i = 1; i < 40; ++i) {
    product += R"(,["^",["+",["s","x"],["n",")" + std::to_string(i) + R"("]],["n","1000"]])";
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NE(small.Same(product + "]", R"(["s","x"])", 2), true);
  EXPECT_LT(SecondsSince(start), 16);
}

}  // namespace
}  // namespace tramontane
