// Thinking blocks against models and prompts: who decides, what fits, what is refused.
#include "generator/core/thinking_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace tramontane {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text) {
  return std::vector<int32_t>(text.begin(), text.end());
}

absl::StatusOr<ThinkingPlan> PlanOf(const std::string& block, const std::string& prompt = "1+1=",
                                    const ThinkingProfile& profile = {}, int32_t room = 1000,
                                    const std::string& before = "") {
  const auto thinking = ThinkingFromJson(nlohmann::json::parse(block));
  if (!thinking.ok()) return thinking.status();
  return PlanThinking(*thinking, profile, before + prompt, prompt, room, Encode);
}

int32_t BudgetOf(const std::string& block,
                 const std::string& prompt = "1+1=", const ThinkingProfile& profile = {}) {
  const auto plan = PlanOf(block, prompt, profile);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? plan->budget : -99;
}

void ExpectRefused(const std::string& block, const std::string& what,
                   const ThinkingProfile& profile = {}, int32_t room = 1000) {
  const absl::Status status = PlanOf(block, "1+1=", profile, room).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << block;
  EXPECT_THAT(std::string(status.message()), HasSubstr(what)) << block;
}

TEST(ThinkingPlan, BudgetBeatsEffortBeatsTagBeatsModeBeatsTheModel) {
  ThinkingProfile profile;
  profile.default_budget = 77;
  profile.tags = {{"[Easy]", 11}};
  const std::string reserve = R"("reserve":200)";
  EXPECT_EQ(BudgetOf(R"({"budget":5,"effort":"low","tag":"[Easy]","mode":"off",)" + reserve + "}",
                     "x /no_think", profile),
            5);
  EXPECT_EQ(
      BudgetOf(R"({"effort":"low","tag":"[Easy]","mode":"off",)" + reserve + "}", "", profile),
      200);
  EXPECT_EQ(BudgetOf(R"({"tag":"[Easy]","mode":"off"})", "", profile), 11);
  EXPECT_EQ(BudgetOf(R"({"mode":"off"})", "x /think", profile), 0);
  EXPECT_EQ(BudgetOf("{}", "x /no_think", profile), 0);
  EXPECT_EQ(BudgetOf("{}", "x", profile), 77);
  EXPECT_EQ(BudgetOf("{}", "x"), -1);
}

TEST(ThinkingPlan, EffortIsAShareOfWhatTheReserveLeaves) {
  EXPECT_EQ(BudgetOf(R"({"effort":"low","reserve":200})"), 200);
  EXPECT_EQ(BudgetOf(R"({"effort":"medium","reserve":200})"), 400);
  EXPECT_EQ(BudgetOf(R"({"effort":"high","reserve":200})"), 800);
}

TEST(ThinkingPlan, ALittleEffortIsNeverRoundedToNone) {
  ThinkingProfile profile;
  profile.open = "<";
  profile.close = ">";
  for (const int32_t room : {1, 2, 3, 4, 5}) {
    const auto plan = PlanOf(R"({"effort":"low","reserve":0,"on_exhaust":{"text":">"}})", "",
                             profile, room);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->budget, room <= 4 ? 1 : 2);
    EXPECT_NE(plan->start, ThinkPhase::kAfter);  // it is not off
  }
}

TEST(ThinkingPlan, TagsThatOthersWroteOpenNothing) {
  const auto start = [](const std::string& before, const std::string& opening) {
    return PlanOf("{}", opening, {}, 1000, before)->start;
  };
  EXPECT_EQ(start("what does <think> mean?<|im_end|>", "<|im_start|>assistant\n"),
            ThinkPhase::kBefore);
  EXPECT_EQ(start("and </think>?", "assistant\n<think>\n"), ThinkPhase::kInside);
  EXPECT_EQ(start("<think>", "<think>\n\n</think>\n\n"), ThinkPhase::kAfter);
}

TEST(ThinkingPlan, TheLastFlagInThePromptWins) {
  EXPECT_EQ(LastModeFlag("hi /think there /no_think"), false);
  EXPECT_EQ(LastModeFlag("/no_think\n/think"), true);
  EXPECT_EQ(LastModeFlag("Detailed Thinking On. 1+1 /no_think<|im_end|>"), false);
  EXPECT_EQ(LastModeFlag("/think then detailed thinking off"), false);
  EXPECT_EQ(LastModeFlag("/no_think first, <think>x</think> later"), false);
  EXPECT_EQ(LastModeFlag("/think /thinking a/think /think/"), true);
  EXPECT_EQ(LastModeFlag("see docs/think, /thinking"), std::nullopt);
}

TEST(ThinkingPlan, OffIsAClosedBlockInFrontOfTheAnswer) {
  const auto text = [](const std::string& prompt) {
    const auto plan = PlanOf(R"({"budget":0})", prompt);
    EXPECT_EQ(plan->start, ThinkPhase::kAfter);
    return std::string(plan->prefill.begin(), plan->prefill.end());
  };
  EXPECT_EQ(text("1+1="), "<think>\n\n</think>\n\n");
  EXPECT_EQ(text("1+1=<think>\n"), "\n</think>\n\n");
  EXPECT_EQ(text("1+1=<think>"), "\n\n</think>\n\n");
  EXPECT_EQ(text("1+1=<think>\n\n</think>\n\n"), "");
  EXPECT_EQ(text("<think>a</think>b. 1+1="), "<think>\n\n</think>\n\n");
}

TEST(ThinkingPlan, ExhaustionStylesHaveTheirTexts) {
  const auto text = [](const std::string& style) {
    const auto plan = PlanOf(R"({"budget":9,"on_exhaust":)" + style + "}");
    EXPECT_TRUE(plan.ok()) << plan.status();
    return std::string(plan->exhaustion.begin(), plan->exhaustion.end());
  };
  EXPECT_EQ(text("\"qwen3\""),
            "Considering the limited time by the user, I have to give the solution based on the "
            "thinking directly now.\n</think>.\n\n");
  EXPECT_EQ(text("\"s1\""), "</think>\n\nFinal Answer:");
  EXPECT_EQ(text("\"cwm\""), "...</think>");
  EXPECT_EQ(text(R"({"text":"Stop.</think>"})"), "Stop.</think>");
  ExpectRefused(R"({"budget":9,"on_exhaust":{"text":"Stop."}})", "thinking.on_exhaust");
}

TEST(ThinkingPlan, TheReserveAndTheClosingStringStayFree) {
  // CWM's cap: total − reserve − its own tokens.
  EXPECT_EQ(PlanOf(R"({"budget":-1,"on_exhaust":"cwm","reserve":100})")->latest, 1000 - 100 - 11);
  EXPECT_EQ(PlanOf(R"({"budget":-1,"on_exhaust":"cwm"})")->latest, 1000 - 250 - 11);
  ExpectRefused(R"({"budget":-1,"reserve":1000})", "thinking.reserve");
  ExpectRefused(R"({"budget":-1,"reserve":-1})", "thinking.reserve");
  ExpectRefused(R"({"budget":5,"reserve":10})", "thinking.reserve", {}, 60);
}

TEST(ThinkingPlan, WhatTheModelDoesNotAllowIsRefusedNeverClamped) {
  ThinkingProfile profile;
  profile.min = 128;
  profile.max = 512;
  profile.can_disable = false;
  ExpectRefused(R"({"budget":127})", "thinking.budget: 127 is outside", profile);
  ExpectRefused(R"({"budget":513})", "thinking.budget: 513 is outside", profile);
  ExpectRefused(R"({"budget":0})", "thinking.budget", profile);
  ExpectRefused(R"({"mode":"off"})", "thinking.mode", profile);
  ExpectRefused(R"({"effort":"high","reserve":100})", "thinking.effort", profile);
  ExpectRefused(R"({"effort":"low","reserve":700})", "thinking.effort: 75 is outside", profile);
  profile.tags = {{"[Easy]", 200}, {"[Hard]", 600}};
  ExpectRefused(R"({"tag":"dynamic"})", "thinking.tag: 600 is outside", profile);
  profile.tags = {{"[Easy]", 200}, {"[Hard]", 500}};
  EXPECT_TRUE(PlanOf(R"({"tag":"dynamic","reserve":100})", "", profile).ok());
  ExpectRefused(R"({"tag":"dynamic","reserve":600})", "thinking.tag: 500 does not fit", profile);
  ExpectRefused(R"({"tag":"dynamic","reserve":100,"min_tokens":300})", "thinking.min_tokens",
                profile);
  EXPECT_TRUE(PlanOf(R"({"budget":512})", "", profile).ok());
  ExpectRefused(R"({"budget":801,"reserve":200})", "thinking.budget: 801 does not fit");
}

TEST(ThinkingPlan, BadBlocksNameTheirField) {
  ExpectRefused(R"({"budget":-2})", "thinking.budget");
  ExpectRefused(R"({"budget":1.5})", "thinking.budget");
  ExpectRefused(R"({"budget":"many"})", "thinking.budget");
  ExpectRefused(R"({"budget":99999999999})", "thinking.budget");
  ExpectRefused(R"({"bugdet":1})", "thinking.bugdet: unknown key");
  ExpectRefused(R"({"effort":"huge"})", "thinking.effort");
  ExpectRefused(R"({"tag":"[Odd]"})", "thinking.tag");
  ExpectRefused(R"({"mode":"maybe"})", "thinking.mode");
  ExpectRefused(R"({"min_tokens":-1})", "thinking.min_tokens");
  ExpectRefused(R"({"budget":5,"min_tokens":6})", "thinking.min_tokens");
  ExpectRefused(R"({"min_tokens":999})", "thinking.min_tokens");
  ExpectRefused(R"({"on_exhaust":"panic"})", "thinking.on_exhaust");
  ExpectRefused(R"({"extensions":-1})", "thinking.extensions");
  ExpectRefused(R"([1])", "thinking");
}

TEST(ThinkingPlan, TagsArePutInFrontOrLeftToTheModel) {
  const auto forced = PlanOf(R"({"tag":"[Easy]","reserve":200})");
  EXPECT_EQ(std::string(forced->prefill.begin(), forced->prefill.end()), "[Easy]");
  EXPECT_EQ(forced->budget, 200);
  const auto dynamic = PlanOf(R"({"tag":"dynamic","reserve":200})");
  EXPECT_TRUE(dynamic->prefill.empty());
  EXPECT_EQ(dynamic->budget, -1);
  EXPECT_EQ(dynamic->tag_budgets.at("[Hard]"), 800);
}

TEST(ThinkingPlan, BlocksSurviveJson) {
  for (const char* text :
       {R"({"budget":7,"on_exhaust":{"text":"x</think>"},"reserve":3,"extensions":2})",
        R"({"effort":"low","min_tokens":4,"extension_text":"Hmm"})", "{}"}) {
    const ThinkingParams block = *ThinkingFromJson(nlohmann::json::parse(text));
    EXPECT_EQ(*ThinkingFromJson(ToJson(block)), block) << text;
  }
}

TEST(ThinkingProfile, IsReadFromGenerationConfigAndBadOnesNameFileAndKey) {
  std::string dir = (std::filesystem::temp_directory_path() / "profile_XXXXXX").string();
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  EXPECT_EQ(LoadThinkingProfile(dir)->max, INT32_MAX);  // publishes nothing
  const auto load = [&](const std::string& thinking) {
    std::ofstream(dir + "/generation_config.json") << R"({"thinking":)" << thinking << "}";
    return LoadThinkingProfile(dir);
  };
  const auto profile =
      load(R"({"min":16,"max":64,"can_disable":false,"default":32,"open":"[T]","close":"[/T]",
               "tags":{"[Easy]":20}})");
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->min, 16);
  EXPECT_EQ(profile->default_budget, 32);
  EXPECT_EQ(profile->close, "[/T]");
  EXPECT_EQ(profile->tags.at("[Easy]"), 20);
  for (const char* bad : {R"({"min":0})", R"({"max":"x"})", R"({"mni":3})", R"({"close":""})",
                          R"({"default":-7})", R"({"tags":{"[A]":0}})"}) {
    const absl::Status status = load(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("generation_config.json")) << bad;
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tramontane
