// The C++ SDK: what a function's scores become, and the verbs.
#include "verifier/sdk/cpp/verifier_sdk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "verifier/sdk/cpp/examiner.h"

namespace tramontane {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

VerifierSpec Spec(std::function<absl::StatusOr<Score>(const GradeRequest&)> score) {
  return {.name = "mine", .version = "1.0.0", .score = std::move(score)};
}

Verdict Graded(const VerifierSpec& spec, const std::string& completion = "x") {
  const auto grader = MakeFunctionGrader(spec);
  EXPECT_TRUE(grader.ok()) << grader.status();
  GradeRequest request;
  request.completion = completion;
  return (*grader)->Grade(request);
}

Verdict GradedAs(const Score& score) {
  return Graded(Spec([score](const GradeRequest&) { return score; }));
}

Score Reward(double reward) {
  Score score;
  score.reward = reward;
  return score;
}

TEST(FunctionGraderTest, AScoreIsAVerdict) {
  Score score = Reward(0.75);
  score.components = {{"a", 0.5}, {"b", 0.25}};
  score.metrics = {{"lines", 3}};
  score.extracted = "4 \xff";
  const Verdict verdict = GradedAs(score);
  EXPECT_EQ(verdict.status, VerdictStatus::kScored);
  EXPECT_EQ(verdict.score, 0.75);
  EXPECT_EQ(verdict.metrics.at("lines"), 3);
  EXPECT_FALSE(verdict.correct);
  EXPECT_NO_THROW(Json(verdict.extracted).dump()) << "valid text";
  EXPECT_EQ(verdict.verifier_digest.size(), 64u);
  EXPECT_TRUE(GradedAs(Reward(1)).correct);
  EXPECT_EQ(GradedAs(Score{}).status, VerdictStatus::kSkipped);
}

TEST(FunctionGraderTest, NonsenseIsTheVerifiersFaultAndNeverAReward) {
  Score unequal = Reward(1), infinite = Reward(1);
  unequal.components = {{"a", 0.5}};
  infinite.metrics = {{"a", INFINITY}};
  for (const Score& score :
       {Reward(NAN), Reward(INFINITY), Reward(1.5), Reward(-1), unequal, infinite}) {
    const Verdict verdict = GradedAs(score);
    EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
    EXPECT_EQ(verdict.fault, Fault::kVerifier);
    EXPECT_FALSE(verdict.score);
  }
  const Verdict thrown = Graded(
      Spec([](const GradeRequest&) -> absl::StatusOr<Score> { throw std::runtime_error("oops"); }));
  EXPECT_EQ(thrown.status, VerdictStatus::kInfraFailure);
  EXPECT_EQ(thrown.feedback, "oops");
  const Verdict row = Graded(Spec([](const GradeRequest&) -> absl::StatusOr<Score> {
    return absl::InvalidArgumentError("no gold answer");
  }));
  EXPECT_EQ(row.fault, Fault::kRow);
}

TEST(FunctionGraderTest, AGroupIsScoredAtOnceOrNotAtAll) {
  size_t scores = 2;
  VerifierSpec spec{.name = "ranks", .version = "1"};
  spec.score_group =
      [&scores](const std::vector<GradeRequest>&) -> absl::StatusOr<std::vector<Score>> {
    return std::vector<Score>(scores, Reward(0.5));
  };
  const auto grader = MakeFunctionGrader(spec);
  ASSERT_TRUE(grader.ok());
  EXPECT_TRUE((*grader)->group_aware());
  EXPECT_EQ((*grader)->GradeGroup(std::vector<GradeRequest>(2))[1].score, 0.5);
  scores = 3;
  for (const Verdict& verdict : (*grader)->GradeGroup(std::vector<GradeRequest>(2))) {
    EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  }
}

TEST(FunctionGraderTest, ASpecThatCannotWorkIsRefused) {
  EXPECT_FALSE(MakeFunctionGrader({.name = "x", .version = "1"}).ok());
  EXPECT_FALSE(
      MakeFunctionGrader(
          {.name = "", .version = "1", .score = [](const GradeRequest&) { return Score{}; }})
          .ok());
  VerifierSpec spec = Spec([](const GradeRequest&) { return Score{}; });
  const std::string digest = (*MakeFunctionGrader(spec))->digest();
  spec.depends_on = "model v2";
  EXPECT_NE((*MakeFunctionGrader(spec))->digest(), digest);
}

// VerifierMain with these arguments: its exit status, and what it printed.
std::pair<int, std::string> Call(const VerifierSpec& spec, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "mine");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  testing::internal::CaptureStdout();
  const int status = VerifierMain(static_cast<int>(argv.size()), argv.data(), spec);
  return {status, testing::internal::GetCapturedStdout()};
}

class VerbsTest : public testing::Test {
 protected:
  VerbsTest() : folder_(testing::TempDir() + "verbs_" + std::to_string(::getpid())) {
    fs::create_directories(folder_ + "/run/rollouts/step_1");
  }
  ~VerbsTest() override { fs::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }

  const std::string folder_;
  const VerifierSpec spec_ = Spec([](const GradeRequest& request) {
    return Reward(request.completion == request.answer ? 1 : 0);
  });
};

TEST_F(VerbsTest, TestPutsTheAuthorsCases) {
  const std::string cases =
      Write("cases.jsonl", R"({"completion": "5", "answer": "5", "expect": {"reward": 1}}
{"completion": "6", "answer": "5", "expect": {"reward": 1, "status": "scored"}}
)");
  const auto [status, text] = Call(spec_, {"test", cases});
  EXPECT_EQ(status, 1);
  EXPECT_THAT(text, HasSubstr("ok   " + cases + ":1"));
  EXPECT_THAT(text, HasSubstr("FAIL " + cases + ":2: reward: expected 1, got 0.0"));
  EXPECT_THAT(text, HasSubstr("mine 1.0.0: 1 passed, 1 failed"));
}

TEST_F(VerbsTest, ValidateFindsWhatDiffersAndWhatFails) {
  EXPECT_EQ(Call(spec_, {"validate"}).first, 0);
  int calls = 0;
  const auto [status, text] =
      Call(Spec([&calls](const GradeRequest& request) {
             return Reward(request.completion.empty() ? NAN : (++calls % 100) / 100.0);
           }),
           {"validate"});
  EXPECT_EQ(status, 1);
  EXPECT_THAT(text, HasSubstr("FAIL empty: verifier_error"));
  EXPECT_THAT(text, HasSubstr("not deterministic"));
}

TEST_F(VerbsTest, ReplayComparesWithWhatARunHasStored) {
  const Json stored = {{"step", 1},
                       {"gid", "g"},
                       {"prompt", "2+3="},
                       {"answer", "5"},
                       {"params", Json::object()},
                       {"sample_index", 0},
                       {"text", "5"},
                       {"verdict", {{"verifier", "old"}, {"correct", false}, {"score", 0.0}}}};
  Write("run/rollouts/step_1/train.jsonl", stored.dump() + "\n");
  const auto [status, text] = Call(spec_, {"replay", folder_ + "/run", "--json"});
  EXPECT_EQ(status, 0);
  const Json document = Json::parse(text);
  EXPECT_EQ(document["samples"], 1);
  EXPECT_EQ(document["differing"], 1);
  EXPECT_EQ(document["mean_new"], 1.0);
  EXPECT_EQ(document["correct"]["only_new"], 1);
  EXPECT_EQ(Call(spec_, {"replay", folder_}).first, 1) << "not a run directory";
}

TEST_F(VerbsTest, InitWritesAVerifierOnce) {
  const auto [status, text] = Call(spec_, {"init", "digits", folder_});
  EXPECT_EQ(status, 0);
  std::ifstream source(folder_ + "/digits/digits.cc");
  const std::string code((std::istreambuf_iterator<char>(source)), {});
  EXPECT_THAT(code, HasSubstr(".name = \"digits\""));
  EXPECT_TRUE(fs::exists(folder_ + "/digits/CMakeLists.txt"));
  EXPECT_EQ(Call(spec_, {"test", folder_ + "/digits/digits_cases.jsonl"}).first, 1)
      << "this one says nothing of empty answers";
  EXPECT_EQ(Call(spec_, {"init", "digits", folder_}).first, 1) << "it is there already";
  EXPECT_EQ(Call(spec_, {"init", "../x", folder_}).first, 1);
}

}  // namespace
}  // namespace tramontane
