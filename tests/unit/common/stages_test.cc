// Chains of stages: what each stage's configuration is, and what no chain can do.
#include "common/stages.h"

#include <gtest/gtest.h>

#include "common/kind_rules.h"

namespace tramontane {
namespace {

constexpr char kChain[] = R"(
run: {name: chain, max_steps: 7}
model: {path: /m}
data: {train: /t, eval: /e}
sft: {steps: 5, learning_rate: 0.5}
stages:
  - {name: cold, kind: sft, data: [/rows.jsonl]}
  - {name: rl, kind: rl, set: {preset: dapo, run: {max_steps: 3}, rollout: {samples_per_group: 4}}}
  - {name: best, kind: reject_sample, set: {reject: {keep: first_correct}}}
  - {name: again, kind: sft, from: base, data: [best]}
  - {name: both, kind: merge, models: [rl, again]}
)";

RunConfig Chain(const std::string& yaml = kChain) {
  auto config = ParseConfig(yaml, "test", {});
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : RunConfig();
}

std::string ChainError(const std::string& stages) {
  const auto config = ParseConfig("run: {name: c}\nmodel: {path: /m}\ndata: {train: /t}\nsft: {steps: 5}\n"
                                  "stages:\n" + stages, "test", {});
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << stages;
  return std::string(config.status().message());
}

void ExpectError(const std::string& stages, const std::string& part) {
  const std::string error = ChainError(stages);
  EXPECT_NE(error.find(part), std::string::npos) << stages << " → " << error;
}

TEST(StagesTest, ChainThenPresetThenSetThenWhatTheChainDecides) {
  const RunConfig chain = Chain();
  const RunConfig cold = StageConfig(chain, 0, "/r/chain", {"", "/rows.jsonl", {}}).value();
  EXPECT_EQ(cold.run.kind, "sft");
  EXPECT_EQ(cold.run.name, "chain-cold");
  EXPECT_EQ(cold.run.output_dir, "/r/chain/stages");
  EXPECT_EQ(cold.model.path, "/m");
  EXPECT_EQ(cold.sft.data, "/rows.jsonl");
  EXPECT_EQ(cold.sft.learning_rate, 0.5);
  EXPECT_TRUE(cold.stages.empty());

  const RunConfig rl = StageConfig(chain, 1, "/r/chain", {"/cold/hf", "", {}}).value();
  EXPECT_EQ(rl.run.max_steps, 3);
  EXPECT_EQ(rl.model.path, "/cold/hf");
  EXPECT_EQ(rl.algorithm.advantage.scale, "group_std");  // preset
  EXPECT_EQ(rl.rollout.samples_per_group, 4);            // set
  EXPECT_EQ(rl.rollout.max_new_tokens, 20480);           // preset
  EXPECT_EQ(rl.sft.data, "");                            // no cold start of its own
  EXPECT_EQ(rl.run.stage_number, 2);
  EXPECT_EQ(rl.run.stage_count, 5);
  EXPECT_EQ(StageRunDir("/r/chain", chain, 1), rl.run.output_dir + "/" + rl.run.name);

  const RunConfig merge = StageConfig(chain, 4, "/r/chain", {"/m", "", {"/a", "/b"}}).value();
  EXPECT_EQ(merge.merge.models, (std::vector<std::string>{"/a", "/b"}));
  // The chain is a configuration again.
  EXPECT_EQ(ToJson(ParseConfig(ToJson(chain).dump(), "again", {}).value()), ToJson(chain));
}

TEST(StagesTest, ReferencesNameEarlierStagesOfTheRightKind) {
  const RunConfig chain = Chain();
  EXPECT_EQ(FindStage(chain, 3, "base", true).value(), -1);
  EXPECT_EQ(FindStage(chain, 3, "rl", true).value(), 1);
  EXPECT_EQ(FindStage(chain, 3, "best", false).value(), 2);
  EXPECT_TRUE(absl::IsNotFound(FindStage(chain, 3, "./best", false).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FindStage(chain, 3, "both", true).status()));
  EXPECT_EQ(NewestModel(chain, 3), 1);  // rejection sampling gives rows
  EXPECT_EQ(NewestModel(chain, 0), -1);
}

TEST(StagesTest, AnRlStageGivesAModelAndRollouts) {
  const RunConfig chain = Chain(
      "run: {name: c}\nmodel: {path: /m}\ndata: {train: /t}\nsft: {steps: 5}\nstages:\n"
      "  - {name: rl, kind: rl}\n"
      "  - {name: dpo, kind: dpo, data: [rl], set: {reject: {keep: pairs_short_long, last_steps: "
      "9}}}\n"
      "  - {name: again, kind: sft, from: base, data: [rl, /more.jsonl]}");
  EXPECT_EQ(FindStage(chain, 1, "rl", true).value(), 0);
  EXPECT_EQ(FindStage(chain, 1, "rl", false).value(), 0);
}

TEST(StagesTest, WhatNoChainCanDoIsRefusedWithItsRule) {
  ExpectError("  - {name: a, kind: sftt, data: [/r.jsonl]}", "kind_is_known");
  ExpectError("  - {name: a b, kind: sft, data: [/r.jsonl]}", "stages_have_names");
  ExpectError("  - {name: a, kind: sft, data: [/r.jsonl]}\n  - {name: a, kind: rl}", "stages_have_names");
  ExpectError("  - {name: a, kind: sft, data: [later]}\n  - {name: later, kind: reject_sample}",
              "stages_take_from_earlier_ones");
  ExpectError("  - {name: r, kind: reject_sample}\n  - {name: a, kind: rl, from: r}",
              "a_stage_gives_what_the_next_takes");
  ExpectError("  - {name: a, kind: sft, data: [/r.jsonl]}\n  - {name: b, kind: sft, data: [a]}",
              "a_stage_gives_what_the_next_takes");
  ExpectError("  - {name: a, kind: rl}\n  - {name: b, kind: dpo, data: [a]}",
              "rollouts_are_selected_for_their_reader");
  ExpectError(
      "  - {name: a, kind: rl}\n"
      "  - {name: b, kind: sft, data: [a], set: {reject: {keep: pairs_best_worst}}}",
      "rollouts_are_selected_for_their_reader");
  ExpectError("  - {name: a, kind: rl, data: [/r.jsonl]}", "rows_are_for_supervised_stages");
  ExpectError("  - {name: a, kind: rl, models: [/m2]}", "models_are_for_merge_and_distill");
  ExpectError("  - {name: a, kind: sft}", "supervised_kinds_have_rows");
  ExpectError("  - {name: a, kind: merge, models: [/m2]}", "merge_has_models");
  ExpectError("  - {name: a, kind: merge, models: [/m2, /m3], set: {merge: {weights: [1]}}}",
              "merge_weighs_every_model");
  ExpectError("  - {name: a, kind: distill, data: [/r.jsonl]}", "distill_has_a_teacher");
  ExpectError("  - {name: a, kind: rl, set: {rollout: {top_p: 0.5}}}", "stage 'a': rollout.top_p");
  ExpectError("  - {name: a, kind: rl, set: {stages: []}}", "set.stages");
  ExpectError("  - {name: a, kind: rl, sett: {}}", "unknown key (did you mean 'set'?)");
}

std::string KindError(const std::string& yaml) {
  const auto config = ParseConfig("model: {path: /m}\n" + yaml, "test", {});
  EXPECT_FALSE(config.ok()) << yaml;
  return std::string(config.status().message());
}

TEST(KindRulesTest, EachKindSaysWhatItNeeds) {
  const auto expect = [](const std::string& yaml, const std::string& rule) {
    const std::string error = KindError(yaml);
    EXPECT_NE(error.find("(rule " + rule + ")"), std::string::npos) << yaml << " → " << error;
  };
  expect("run: {kind: rll}", "kind_is_known");
  expect("run: {kind: rl}", "rl_has_prompts");
  expect("run: {kind: reject_sample}", "rl_has_prompts");
  expect("run: {kind: dpo}", "supervised_kinds_have_rows");
  const std::string rows = "sft: {data: /r, steps: 1}\n";
  expect(rows + "run: {kind: dpo}\ndpo: {beta: 0}", "dpo_beta_is_positive");
  expect(rows + "run: {kind: dpo}\ndpo: {label_smoothing: 0.5}", "dpo_label_smoothing_is_below_half");
  expect("run: {kind: length_predictor}", "supervised_kinds_have_rows");
  const std::string lengths = rows + "run: {kind: length_predictor}\n";
  expect(lengths + "trainer: {ranks: 2}", "length_predictor_learns_in_one_process");
  expect(lengths + "lora: {rank: 4}", "length_predictor_leaves_the_model_alone");
  const std::string guided = "rollout: {thinking: {budget: 9, guidance: true}}\n";
  for (const char* kind : {"rl", "distill"}) {
    expect("data: {train: /t}\n" + guided + "run: {kind: " + kind +
               "}\ndistill: {teacher: /t, mode: on_policy}\n"
               "algorithm: {kl: {kind: k3, coefficient: 1, reference: " +
               (kind == std::string("rl") ? "initial" : "teacher") + "}}",
           "guided_tokens_are_not_trained_on");
  }
  EXPECT_TRUE(
      ParseConfig("model: {path: /m}\ndata: {train: /t}\nrun: {kind: reject_sample}\n" + guided,
                  "test", {})
          .ok());
  const std::string distill = rows + "run: {kind: distill}\ndistill: {teacher: /t, ";
  expect(distill + "mode: offline}", "distill_mode_is_known");
  expect(distill + "direction: sideways}", "distill_direction_is_known");
  expect(distill + "direction: reverse, top_k: 4}", "distill_top_k_is_forward");
  expect(distill + "temperature: 0}", "distill_temperature_is_positive");
  expect(distill + "temperature: 2, nll_weight: 0.5}", "own_tokens_are_learnt_at_temperature_one");
  const std::string train = "data: {train: /t}\n";
  expect(train + "run: {kind: distill}\ndistill: {teacher: /t, mode: on_policy}",
         "on_policy_compares_with_the_teacher");
  expect(train + "algorithm: {kl: {kind: k3, coefficient: 1, reference: teacher}}",
         "teacher_is_of_distill");
  expect(train + "run: {kind: reject_sample}\nreject: {keep: any}", "selection_is_known");
  expect(train + "run: {kind: reject_sample}\nreject: {keep: pairs_best_worst}\n"
                 "rollout: {samples_per_group: 1}\nalgorithm: {advantage: {baseline: none}}",
         "pairs_need_two_samples");
  expect(rows + train + "run: {kind: reject_sample}", "selection_has_no_cold_start");
  expect("run: {kind: merge}\nmerge: {models: [/a, /b, /c], method: slerp}", "merge_has_models");
  expect("run: {kind: merge}\nmerge: {models: [/a, /b], weights: [1, -1]}", "merge_weighs_every_model");
  expect("run: {kind: sft}\nsft: {data: /r, steps: 1, stop_loss: 0.5}",
         "sft_exits_have_held_out_rows");
  expect("run: {kind: sft}\nsft: {data: /r, steps: 1, eval_data: /e}",
         "held_out_rows_have_an_interval");
  expect(rows + "run: {kind: dpo}\nreject: {last_steps: -1}", "selection_has_steps");
  expect(train + "run: {stop_accuracy: 0.5}", "held_out_exits_have_evaluations");
  expect(train + "run: {stop_reward_window_steps: 0}", "stop_window_is_positive");
  expect(train + "algorithm: {advantage: {reward_weight: 0}}", "something_is_taught");
  expect(train + "algorithm: {kl: {kind: full, coefficient: 1, where: token_advantage}}",
         "token_advantages_are_score_functions");
  EXPECT_TRUE(ParseConfig("preset: opd\nmodel: {path: /m}\ndata: {train: /t}\ndistill: {teacher: /t}",
                          "test", {})
                  .ok());
}

TEST(BandsTest, UnknownNumbersAndEmptyBandsAreRefused) {
  const auto expect = [](const std::string& bands, const std::string& part) {
    const std::string error = KindError("data: {train: /t}\nbands: {" + bands + "}");
    EXPECT_NE(error.find(part), std::string::npos) << bands << " → " << error;
  };
  expect("policy.mismatch: {high: 1}", "bands.policy.mismatch: is not one of");
  expect("reward_mean: {}", "needs low or high");
  expect("reward_mean: {low: 1, high: 0}", "must not be above high");
  expect("reward_mean: {low: 1, action: stop}", "'stop' is not one of warn, dump, pause");
  expect("reward_mean: {low: 1, patience_steps: 0}", "patience_steps");
  EXPECT_NE(KindError("data: {train: /t}\ntrainer: {starvation: die}").find("trainer.starvation"),
            std::string::npos);
}

TEST(KindRulesTest, WhoRunsAlone) {
  RunConfig config;
  for (const auto& [kind, alone] : {std::pair{"rl", false},
                                    {"sft", true},
                                    {"dpo", true},
                                    {"merge", true},
                                    {"reject_sample", false},
                                    {"distill", true},
                                    {"length_predictor", true}}) {
    config.run.kind = kind;
    EXPECT_EQ(RunsAlone(config), alone) << kind;
  }
  config.run.kind = "distill";
  config.distill.mode = "on_policy";
  EXPECT_FALSE(RunsAlone(config));
}

}  // namespace
}  // namespace tramontane
