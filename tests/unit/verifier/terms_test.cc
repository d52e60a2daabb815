// The terms of a reward by their closed forms, and how they are put together.
#include "verifier/terms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "verifier/term_values.h"

namespace tramontane {
namespace {

TEST(TermValuesTest, SoftOverlongFallsOverTheCache) {
  EXPECT_EQ(SoftOverlong(16384, 20480, 4096), 0);
  EXPECT_EQ(SoftOverlong(18432, 20480, 4096), -0.5);
  EXPECT_EQ(SoftOverlong(20480, 20480, 4096), -1);
  EXPECT_EQ(SoftOverlong(2000000000, 20480, 4096), -1);
}

TEST(TermValuesTest, CosineFollowsPhi4) {
  const CosineLengths lengths;
  const auto at = [&](bool correct, int32_t tokens) {
    return CosineReward(correct, tokens, true, true, lengths);
  };
  EXPECT_NEAR(at(true, 0), 1, 1e-12);
  EXPECT_NEAR(at(true, 25600), 1, 1e-12);
  EXPECT_NEAR(at(true, 28672), 0.75, 1e-12);
  EXPECT_NEAR(at(true, 31744), 0.5, 1e-12);
  EXPECT_NEAR(at(true, 99999), 0.5, 1e-12);
  EXPECT_NEAR(at(false, 0), -1, 1e-12);
  EXPECT_NEAR(at(false, 1851), -0.75, 1e-12);
  EXPECT_NEAR(at(false, 3702), -0.5, 1e-12);
  EXPECT_NEAR(at(false, 99999), -0.5, 1e-12);
  EXPECT_EQ(CosineReward(true, 10, false, true, lengths), -0.5);
  EXPECT_EQ(CosineReward(true, 10, true, false, lengths), -1);
  const CosineLengths small{.fade_from_tokens = 100, .max_tokens = 200, .wrong_until_tokens = 50};
  EXPECT_NEAR(CosineReward(true, 150, true, true, small), 0.75, 1e-12);
}

TEST(TermValuesTest, RepetitionCountsNGrams) {
  EXPECT_EQ(RepetitionPenalty("a b", 3, 5), 0);  // too short for any
  // 20 different words: the commonest 5-gram occurs once in room for four.
  std::string different;
  for (int i = 0; i < 20; ++i) different += "w" + std::to_string(i) + " ";
  EXPECT_NEAR(RepetitionPenalty(different, 5, 5), -0.25, 1e-12);
  std::string same;
  for (int i = 0; i < 100; ++i) same += "na ";
  EXPECT_EQ(RepetitionPenalty(same, 5, 5), -1);
  // a b a b …: two 2-grams, both more than twice; 12 words, room for 6, the commonest 6 times.
  EXPECT_EQ(RepetitionPenalty("a b a b a b a b a b a b", 2, 2), -1);
  EXPECT_NEAR(RepetitionPenalty("a b c d a b c e a b", 2, 2), -3.0 / 5, 1e-12);
}

TEST(TermValuesTest, KimiLengthRanksWithinTheGroup) {
  const std::vector<double> rewards = KimiLength({10, 20, 30}, {true, true, false});
  EXPECT_EQ(rewards, (std::vector<double>{0.5, 0, -0.5}));
  EXPECT_EQ(KimiLength({10, 20, 30}, {false, false, false}), (std::vector<double>{0, 0, -0.5}));
  EXPECT_EQ(KimiLength({7, 7}, {true, false}), (std::vector<double>{0, 0}));
  EXPECT_TRUE(KimiLength({}, {}).empty());
}

TEST(TermValuesTest, AdaCtrlKnowsAnEasyGroupByItsAccuracy) {
  const auto group = [](int correct) {
    std::vector<AdaCtrlSample> samples(16);
    for (int i = 0; i < correct; ++i) samples[static_cast<size_t>(i)].correct = true;
    samples[0].tag = DifficultyTag::kEasy;
    samples[0].tokens = 50;
    samples[1].tokens = 100;
    samples[15].tag = DifficultyTag::kHard;
    return samples;
  };
  const std::vector<double> easy = AdaCtrl(group(11), {});
  EXPECT_NEAR(easy[0], 1.75, 1e-12);    // right, tagged easy and easy, half as long as the longest
  EXPECT_NEAR(easy[1], 1 - 0.5, 1e-12);  // right, without a tag
  EXPECT_NEAR(easy[15], -1, 1e-12);      // wrong, tagged hard in an easy group
  const std::vector<double> hard = AdaCtrl(group(10), {});
  EXPECT_NEAR(hard[0], 1.25, 1e-12);
  EXPECT_NEAR(hard[15], -0.5, 1e-12);
  EXPECT_EQ(TagOf(" [Easy] 5"), DifficultyTag::kEasy);
  EXPECT_EQ(TagOf("so [Hard]"), DifficultyTag::kAbsent);
}

GradeRequest Request(const std::string& completion, const std::string& gold = "2") {
  GradeRequest request;
  request.prompt = "What is one plus one?";
  request.completion = completion;
  request.answer = gold;
  request.completion_tokens = 90;
  return request;
}

constexpr const char* kRight = "<think>one and one</think>so \\boxed{2}";
constexpr const char* kWrong = "<think>one and one</think>so \\boxed{3}";

TEST(RewardTermsTest, TheScoreIsTheWeightedSumBehindTheGate) {
  RewardSection reward;
  reward.terms["accuracy"] = {{"weight", 8.0}, {"right", 1}, {"wrong", -1}};
  reward.terms["soft_overlong"] = {{"weight", 2}, {"max_tokens", 100}, {"cache_tokens", 20}};
  const auto grader = MakeBuiltinGrader("math", reward);
  ASSERT_TRUE(grader.ok()) << grader.status();
  const Verdict right = (*grader)->Grade(Request(kRight));
  EXPECT_NEAR(*right.score, 8 - 2 * 0.5, 1e-12);
  EXPECT_NEAR(right.components.at("soft_overlong"), -1, 1e-12);
  EXPECT_NEAR(*(*grader)->Grade(Request(kWrong)).score, -9, 1e-12);
  EXPECT_EQ((*grader)->Grade(Request("\\boxed{2}")).score, 0.0);
  EXPECT_EQ((*grader)->min_score(), -10);
  EXPECT_EQ((*grader)->max_score(), 8);
  EXPECT_EQ((*grader)->components(), (std::vector<std::string>{"accuracy", "soft_overlong"}));
  EXPECT_FALSE((*grader)->group_aware());

  reward.gate = false;
  const auto open = MakeBuiltinGrader("math", reward);
  EXPECT_NEAR(*(*open)->Grade(Request("\\boxed{2}")).score, -9, 1e-12);  // not graded, not gated
  EXPECT_NE((*open)->digest(), (*grader)->digest());
}

TEST(RewardTermsTest, GroupTermsScoreWholeGroups) {
  RewardSection reward;
  reward.terms["accuracy"] = {{"weight", 1}};
  reward.terms["short"] = {{"term", "kimi_length"}, {"weight", 2}};
  const auto grader = MakeBuiltinGrader("math", reward);
  ASSERT_TRUE(grader.ok()) << grader.status();
  EXPECT_TRUE((*grader)->group_aware());
  std::vector<GradeRequest> group = {Request(kRight), Request(kRight), Request(kWrong)};
  group[0].completion_tokens = 10;
  group[1].completion_tokens = 20;
  group[2].completion_tokens = 30;
  const std::vector<Verdict> verdicts = (*grader)->GradeGroup(group);
  ASSERT_EQ(verdicts.size(), 3u);
  EXPECT_NEAR(*verdicts[0].score, 2, 1e-12);
  EXPECT_NEAR(*verdicts[1].score, 1, 1e-12);
  EXPECT_NEAR(*verdicts[2].score, -1, 1e-12);
  EXPECT_NEAR(verdicts[2].components.at("short"), -1, 1e-12);
}

TEST(RewardTermsTest, ScopesSayWhichPartIsLookedAt) {
  std::string loop;
  for (int i = 0; i < 50; ++i) loop += "na ";
  const std::string completion = "<think>" + loop + "</think>so the answer must be \\boxed{2}";
  const auto score = [&](const char* scope) {
    RewardSection reward;
    reward.terms["repetition"] = {{"n", 3}, {"scope", scope}};
    const auto grader = MakeBuiltinGrader("math", reward);
    return *(*grader)->Grade(Request(completion)).score;
  };
  EXPECT_EQ(score("think"), -1);
  EXPECT_GT(score("answer"), -0.6);
}

TEST(RewardTermsTest, SettingsThatCannotWorkAreNamed) {
  const auto message = [](const char* name, const char* settings) {
    RewardSection reward;
    reward.terms[name] = Json::parse(settings);
    const auto grader = MakeBuiltinGrader("math", reward);
    EXPECT_FALSE(grader.ok()) << name << settings;
    return std::string(grader.status().message());
  };
  EXPECT_NE(message("brevity", "{}").find("kimi_length"), std::string::npos);
  EXPECT_NE(message("cosine", R"({"max": 5})").find("reward.terms.cosine.max"), std::string::npos);
  EXPECT_NE(message("soft_overlong", "{}").find("reward.terms.soft_overlong.max_tokens"),
            std::string::npos);
  EXPECT_NE(message("accuracy", R"({"weight": "1"})").find("reward.terms.accuracy.weight"),
            std::string::npos);
  EXPECT_NE(message("language", R"({"target": "fr"})").find("language_model"), std::string::npos);
  EXPECT_NE(message("repetition", R"({"scope": "none"})").find("scope"), std::string::npos);
}

TEST(TermGraderTest, EveryTermIsAGraderOfItsOwn) {
  const auto graded = [](const char* name, GradeRequest request, const char* params) {
    const auto grader = MakeBuiltinGrader(name, RewardSection{});
    EXPECT_TRUE(grader.ok()) << grader.status();
    request.params = Json::parse(params);
    EXPECT_TRUE((*grader)->CheckRow(request.answer, request.params).ok()) << name;
    const Verdict verdict = (*grader)->Grade(request);
    EXPECT_GE(*verdict.score, (*grader)->min_score());
    EXPECT_LE(*verdict.score, (*grader)->max_score());
    return *verdict.score;
  };
  EXPECT_EQ(graded("format", Request(kRight), "{}"), 1);
  EXPECT_EQ(graded("format", Request("no"), "{}"), 0);
  EXPECT_EQ(graded("soft_overlong", Request(kRight), R"({"max_tokens": 100, "cache_tokens": 20, "kind": 1})"),
            -0.5);
  EXPECT_NEAR(graded("cosine", Request(kRight), "{}"), 1, 1e-12);
  EXPECT_EQ(graded("language", Request(kRight), "{}"), 1);
  EXPECT_EQ(graded("language", Request("<think>раз и раз</think>\\boxed{2}"), "{}"), 0);
  const auto overlong = MakeBuiltinGrader("soft_overlong", RewardSection{});
  EXPECT_EQ((*overlong)->CheckRow("", Json::object()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(RewardTermsTest, UnfinishedPunishesHowASampleEnded) {
  RewardSection reward;
  reward.gate = false;
  reward.terms["accuracy"] = {{"weight", 1}};
  reward.terms["unfinished"] = {{"weight", 2}, {"length", -0.25}};
  const auto grader = MakeBuiltinGrader("math", reward);
  ASSERT_TRUE(grader.ok()) << grader.status();
  const auto score = [&](FinishReason reason) {
    GradeRequest request = Request(kRight);
    request.finish_reason = reason;
    return *(*grader)->Grade(request).score;
  };
  EXPECT_NEAR(score(FinishReason::kStop), 1, 1e-12);
  EXPECT_NEAR(score(FinishReason::kLength), 1 - 0.5, 1e-12);
  EXPECT_NEAR(score(FinishReason::kRepetition), 1 - 2, 1e-12);
  EXPECT_EQ((*grader)->min_score(), -2);
  reward.terms["unfinished"] = {{"repetition", "x"}};
  EXPECT_NE(MakeBuiltinGrader("math", reward)
                .status()
                .message()
                .find("reward.terms.unfinished.repetition"),
            std::string::npos);
}

TEST(RewardTermsTest, ARequestMayWeighTheTermsAnew) {
  RewardSection reward;
  reward.terms["accuracy"] = {{"weight", 1}};
  reward.terms["short"] = {{"term", "kimi_length"}};
  const auto grader = MakeBuiltinGrader("math", reward);
  ASSERT_TRUE(grader.ok()) << grader.status();
  std::vector<GradeRequest> group = {Request(kRight), Request(kRight)};
  group[0].completion_tokens = 10;
  const auto first = [&](const std::map<std::string, double>& weights) {
    for (GradeRequest& request : group) request.reward_weights = weights;
    return (*grader)->GradeGroup(group)[0];
  };
  EXPECT_NEAR(*first({}).score, 1.5, 1e-12);
  EXPECT_NEAR(*first({{"short", 0}}).score, 1, 1e-12);
  EXPECT_NEAR(*first({{"short", 4}, {"accuracy", 2}}).score, 2 + 4 * 0.5, 1e-12);
  EXPECT_NEAR(first({{"short", 4}}).components.at("short"), 2, 1e-12);
  const Verdict unknown = first({{"long", 1}});
  EXPECT_EQ(unknown.status, VerdictStatus::kInfraFailure);
  EXPECT_EQ(unknown.fault, Fault::kRow);
  EXPECT_NE(unknown.feedback.find("'long'"), std::string::npos);
  EXPECT_EQ(first({{"format", 1}}).status, VerdictStatus::kInfraFailure);  // there are terms
}

TEST(RewardTermsTest, ARequestMayWeighTheTableAnew) {
  const auto grader = MakeBuiltinGrader("math", RewardSection());
  GradeRequest request = Request(kRight);
  request.reward_weights = {{"format", 0.25}, {"correct", 0.5}};
  EXPECT_NEAR(*(*grader)->Grade(request).score, 0.75, 1e-12);
  request.reward_weights = {{"accuracy", 1}};  // a component's name, no field's
  EXPECT_EQ((*grader)->Grade(request).status, VerdictStatus::kInfraFailure);
}

}  // namespace
}  // namespace tramontane
