// Every rule of the table is broken by an example, and by nothing else in it.
#include "common/algorithm_rules.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "common/files.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

// Rule → the least change to the default block that breaks it. Written as YAML would be.
const std::map<std::string, std::string>& Breaking() {
  static const std::map<std::string, std::string> examples = {
      {"positive_only_is_not_scaled", R"({"advantage": {"sign": "positive_only"}})"},
      {"alpha_needs_values", R"({"advantage": {"alpha": 0.05}})"},
      {"ppo_clip_needs_a_ratio", R"({"objective": {"ratio": "none"}})"},
      {"cispo_needs_a_ratio", R"({"objective": {"kind": "cispo", "ratio": "none"}})"},
      {"sequence_ratio_needs_sequence_mean", R"({"objective": {"ratio": "sequence"}})"},
      {"dual_clip_is_above_one", R"({"objective": {"dual_clip": 1}})"},
      {"ratio_cap_is_above_one", R"({"objective": {"ratio_cap": 0.9}})"},
      {"opmd_needs_tau",
       R"({"objective": {"kind": "opmd", "ratio": "none"}, "kl": {"reference": "iterate"},
                             "advantage": {"scale": "none"}, "aggregation": {"mode": "seq_mean_token_mean"}})"},
      {"opmd_reference_is_iterate", R"({"objective": {"kind": "opmd", "ratio": "none", "tau": 1},
                             "advantage": {"scale": "none"}, "aggregation": {"mode": "seq_mean_token_mean"}})"},
      {"opmd_is_one_number_a_sequence",
       R"({"objective": {"kind": "opmd", "ratio": "none", "tau": 1},
                             "advantage": {"scale": "none"}, "kl": {"reference": "iterate"}})"},
      {"opmd_compares_rewards_with_their_normaliser",
       R"({"objective": {"kind": "opmd", "ratio": "none", "tau": 1},
                             "aggregation": {"mode": "seq_mean_token_mean"}, "kl": {"reference": "iterate"}})"},
      {"sequence_objectives_need_sequence_advantages",
       R"({"objective": {"kind": "nll"}, "advantage": {"baseline": "value"}})"},
      {"constant_is_given", R"({"aggregation": {"mode": "token_sum_const"}})"},
      {"reset_needs_an_interval", R"({"kl": {"reference": "reset_every_n"}})"},
      {"full_kl_needs_a_copy", R"({"kl": {"kind": "full", "reference": "iterate"}})"},
      {"token_advantages_are_score_functions",
       R"({"kl": {"kind": "full", "where": "token_advantage"}})"},
      {"something_is_taught", R"({"advantage": {"reward_weight": 0}})"},
      {"behaviour_is_not_divided_by_twice", R"({"correction": {"kind": "truncate", "cap": 2}})"},
      {"truncate_needs_a_cap", R"({"correction": {"kind": "truncate", "anchor": "recomputed"}})"},
      {"rejection_needs_a_bound", R"({"correction": {"kind": "mask", "anchor": "recomputed"}})"},
      {"rejection_bounds_are_ordered",
       R"({"correction": {"kind": "mask", "anchor": "recomputed", "low": 2, "high": 1}})"},
      {"adaptive_entropy_has_a_target",
       R"({"entropy": {"kind": "adaptive", "target": 1, "step": 0, "max": 1}})"},
      {"adaptive_entropy_is_bounded",
       R"({"entropy": {"kind": "adaptive", "coefficient": 2, "target": 1, "step": 0.1, "max": 1}})"},
      {"value_loss_needs_values", R"({"auxiliary": {"value_coefficient": 1}})"},
      {"value_clip_needs_a_value_loss", R"({"auxiliary": {"value_clip": 0.2}})"},
      {"masked_samples_have_an_advantage",
       R"({"filter": {"gibberish": "mask", "gibberish_token_min": 9}, "advantage": {"baseline": "value"}})"},
      {"accept_window_is_ordered", R"({"filter": {"accept_low": 0.8, "accept_high": 0.2}})"},
  };
  return examples;
}

TEST(AlgorithmRulesTest, EachRuleRefusesItsExampleByNameAndField) {
  ASSERT_TRUE(ValidateAlgorithm(AlgorithmConfig()).ok());
  for (const AlgorithmRule& rule : AlgorithmRules()) {
    SCOPED_TRACE(rule.name);
    ASSERT_TRUE(Breaking().contains(rule.name)) << "a rule without an example";
    const AlgorithmConfig broken = AlgorithmFromJson(Json::parse(Breaking().at(rule.name))).value();
    int broken_rules = 0;
    for (const AlgorithmRule& other : AlgorithmRules()) broken_rules += !other.holds(broken);
    EXPECT_EQ(broken_rules, 1);
    const absl::Status status = ValidateAlgorithm(broken);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message().find(rule.field), 0u) << status;
    EXPECT_NE(status.message().find(rule.name), std::string::npos) << status;
  }
  EXPECT_EQ(Breaking().size(), AlgorithmRules().size()) << "an example without a rule";
}

TEST(AlgorithmRulesTest, TheDocumentationQuotesEachRule) {
  const std::string page = ReadFile(SourceFile("docs/algorithm.md")).value();
  for (const AlgorithmRule& rule : AlgorithmRules()) {
    const std::string row = "| `" + std::string(rule.name) + "` | `" +
                            std::string(rule.field).substr(std::string("algorithm.").size()) +
                            "`: " + rule.why + " |";
    EXPECT_NE(page.find(row), std::string::npos) << row;
  }
}

TEST(AlgorithmRulesTest, WhatNoRunCanDoIsRefusedByName) {
  AlgorithmConfig algorithm;
  EXPECT_TRUE(CheckRunnable(algorithm).ok());
  algorithm.advantage.baseline = "value";
  EXPECT_TRUE(ValidateAlgorithm(algorithm).ok());
  const absl::Status critic = CheckRunnable(algorithm);
  EXPECT_EQ(critic.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(critic.message().find("critic_learns"), std::string::npos);
  algorithm.auxiliary.value_coefficient = 1;
  EXPECT_TRUE(CheckRunnable(algorithm).ok());

  // The queue filters on the verifier's reward, so a reward that only the learner knows is not
  // filtered.
  algorithm = AlgorithmFromJson(
                  Json::parse(R"({"kl": {"kind": "k1", "coefficient": 0.1, "where": "reward"}})"))
                  .value();
  EXPECT_EQ(CheckRunnable(algorithm).code(), absl::StatusCode::kInvalidArgument);
  algorithm.filter.on = "accuracy";
  EXPECT_TRUE(CheckRunnable(algorithm).ok());
  algorithm.filter.on = "reward";
  algorithm.filter.zero_variance = "keep";
  EXPECT_TRUE(CheckRunnable(algorithm).ok());
}

}  // namespace
}  // namespace tramontane
