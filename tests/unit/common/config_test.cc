#include "common/config.h"

#include <gmock/gmock.h>

namespace tramontane {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kMinimal[] = "model: {path: m}\ndata: {train: t.jsonl}\n";

std::string ErrorOf(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  auto config = ParseConfig(yaml, "c.yaml", overrides);
  return config.ok() ? "no error" : std::string(config.status().message());
}

TEST(Config, DefaultsStandWhereNothingIsSaid) {
  auto config = ParseConfig(kMinimal, "c.yaml", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trainer.groups_per_step, 32);
  EXPECT_EQ(config->algorithm.objective.clip_high, 0.28);
  EXPECT_EQ(config->verifiers.at("math").builtin, "math");
}

TEST(Config, OverridesWinOverTheFile) {
  auto config = ParseConfig(kMinimal, "c.yaml",
                            {"trainer.learning_rate=3e-4", "run.seed=18446744073709551615",
                             "rollout.stop=[\"\\n\", \"1\"]", "algorithm.objective.dual_clip=3"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trainer.learning_rate, 3e-4);
  EXPECT_EQ(config->run.seed, 18446744073709551615u);
  EXPECT_THAT(config->rollout.stop, ::testing::ElementsAre("\n", "1"));
  EXPECT_EQ(config->algorithm.objective.dual_clip, 3.0);
}

TEST(Config, AnUnknownKeyIsNamedWithItsNearestNeighbour) {
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + "trainer: {learning_rat: 1}"),
              ::testing::AllOf(HasSubstr("c.yaml"), HasSubstr("trainer.learning_rat: unknown key"),
                               HasSubstr("'learning_rate'")));
  EXPECT_THAT(ErrorOf(kMinimal, {"verifiers.math.builtn=math"}),
              HasSubstr("verifiers.math.builtn"));
}

TEST(Config, WrongTypesNameTheField) {
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.threads=two"}),
              HasSubstr("trainer.threads: must be a whole number"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.threads=1.5"}), HasSubstr("trainer.threads"));
  EXPECT_THAT(ErrorOf(kMinimal, {"generator.kv_blocks=99999999999"}), HasSubstr("is too large"));
  EXPECT_THAT(ErrorOf(kMinimal, {"run.seed=-1"}), HasSubstr("must not be negative"));
  EXPECT_THAT(ErrorOf(kMinimal, {"data.train=[a]"}), HasSubstr("data.train: must be a string"));
}

TEST(Config, SettingsThatCannotWorkAreRefused) {
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.top_p=0.9"}), HasSubstr("rollout.top_p"));
  EXPECT_THAT(ErrorOf(kMinimal, {"algorithm.objective.ratio=sequence"}),
              HasSubstr("sequence aggregation"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.publish_interval_steps=9"}), HasSubstr("too old"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.thinking={bugdet: 3}"}), HasSubstr("thinking.bugdet"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.thinking={budget: 300}"}),
              HasSubstr("rollout.thinking.budget"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.thinking={reserve: 256}"}),
              HasSubstr("rollout.thinking.reserve"));
  const std::string again = "rollout.correction={samples: 2, phrases: [Again]}";
  EXPECT_EQ(ErrorOf(kMinimal, {again}), "no error");
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.correction={samples: 2}"}),
              HasSubstr("rollout.correction.phrases"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.correction={samples: 1, phrases: [Again]}"}),
              HasSubstr("rule group_baseline_needs_a_group"));
  EXPECT_THAT(ErrorOf(kMinimal, {again, "reward.terms={kimi_length: {}}"}),
              HasSubstr("rule layers_are_compared_apart"));
  EXPECT_THAT(
      ErrorOf(
          kMinimal,
          {again, "verifiers={math: {builtin: math}, env: {command: [e], params: {episode: {}}}}"}),
      HasSubstr("rule corrections_take_no_turns"));
  EXPECT_THAT(ErrorOf(kMinimal, {again, "run.kind=reject_sample"}),
              HasSubstr("rule corrections_are_trained_on"));
  const std::string turns =
      "verifiers={math: {builtin: math}, env: {command: [e], params: {episode: ";
  EXPECT_EQ(ErrorOf(kMinimal, {turns + "{max_turns: 3, judge: math}}}}"}), "no error");
  EXPECT_THAT(ErrorOf(kMinimal, {turns + "{max_turns: 0}}}}"}),
              HasSubstr("verifiers.env: params.episode.max_turns"));
  EXPECT_THAT(ErrorOf(kMinimal, {turns + "{turns: 3}}}}"}), HasSubstr("params.episode.turns"));
  EXPECT_THAT(ErrorOf(kMinimal, {turns + "{judge: env}}}}"}),
              HasSubstr("rule judges_are_verifiers"));
  EXPECT_THAT(
      ErrorOf(kMinimal,
              {"verifiers={math: {builtin: math}, env: {builtin: math, params: {episode: {}}}}"}),
      HasSubstr("rule environments_are_services"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.repetition_tokens=3"}),
              HasSubstr("rule repetition_fits_its_window"));
  EXPECT_EQ(ErrorOf(kMinimal, {"rollout.repetition_tokens=4"}), "no error");
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.repetition_times=1"}),
              HasSubstr("rollout.repetition_times"));
  EXPECT_THAT(ErrorOf(kMinimal, {"rollout.segment_tokens=-1"}),
              HasSubstr("rollout.segment_tokens"));
  EXPECT_THAT(ErrorOf(kMinimal, {"algorithm.filter.gibberish=keep"}),
              HasSubstr("algorithm.filter.gibberish"));
  EXPECT_THAT(ErrorOf(kMinimal, {"algorithm.filter.segment_max_age_versions=-1"}),
              HasSubstr("algorithm.filter.segment_max_age_versions"));
  EXPECT_THAT(ErrorOf(kMinimal, {"generator.count=2", "generator.bind=127.0.0.1:7000"}),
              HasSubstr("generator.bind: '127.0.0.1:7000' is one address for 2 generators"));
  EXPECT_EQ(ErrorOf(kMinimal, {"generator.count=2", "generator.bind=0.0.0.0:0"}), "no error");
  EXPECT_THAT(ErrorOf(kMinimal, {"generator.kv_blocks=2"}),
              HasSubstr("cannot hold one completion"));
  for (const std::string limit : {"max_running_searches=0", "max_waiting_searches=-1",
                                  "max_sessions=-1", "session_idle_timeout_s=0.5"}) {
    EXPECT_THAT(ErrorOf(kMinimal, {"generator." + limit}),
                HasSubstr("generator." + limit.substr(0, limit.find('=')) + ": must be between"));
  }
  EXPECT_THAT(ErrorOf(kMinimal, {"data.verifier=code"}), HasSubstr("data.verifier: 'code'"));
  EXPECT_THAT(ErrorOf(kMinimal, {"model.path="}), HasSubstr("model.path"));
  EXPECT_THAT(ErrorOf(kMinimal, {"verifiers.math.address=h:1", "verifiers.math.builtin=math"}),
              HasSubstr("exactly one"));
}

TEST(Config, VerifiersLeaveTheNamesOfASearchsOwnScorersAlone) {
  for (const std::string name : {"value", "mean_logprob"}) {
    EXPECT_THAT(ErrorOf(kMinimal, {"verifiers." + name + ".builtin=math"}),
                AllOf(HasSubstr("verifiers." + name + ": "),
                      HasSubstr("mean_logprob (the policy itself) and value (a critic) are reserved"),
                      HasSubstr("give it another name")));
  }
  EXPECT_EQ(ErrorOf(kMinimal, {"verifiers.values.builtin=math", "data.verifier=values"}),
            "no error");
}

TEST(Config, AGeneratorWithoutARunIsSetAndCheckedAlone) {
  GeneratorSection base;
  base.http_port = 8000;
  const auto section = ParseGenerator({"generator.kv_blocks=77", "generator.kv_blocks=99"}, base);
  ASSERT_TRUE(section.ok()) << section.status();
  EXPECT_EQ(section->kv_blocks, 99);
  EXPECT_EQ(section->http_port, 8000);
  EXPECT_EQ(section->lease_s, GeneratorSection().lease_s);
  const auto refusal = [&](const std::string& setting) {
    return std::string(ParseGenerator({setting}, base).status().message());
  };
  EXPECT_THAT(refusal("generator.kv_blcks=9"), HasSubstr("kv_blcks: unknown key (did you"));
  EXPECT_THAT(refusal("generator.kv_blocks=many"), HasSubstr("kv_blocks: must be a whole"));
  EXPECT_THAT(refusal("generator.kv_blocks=1"), HasSubstr("generator.kv_blocks: the KV cache"));
  EXPECT_THAT(refusal("generator.threads"), HasSubstr("expected a.b=value"));
  EXPECT_EQ(refusal("trainer.threads=2"), "takes generator.NAME=VALUE, got trainer.threads=2");
}

TEST(Config, RewardsThatCompareAGroupNeedOne) {
  const std::vector<std::string> alone = {"rollout.samples_per_group=1",
                                          "algorithm.advantage.baseline=none",
                                          "algorithm.advantage.scale=none"};
  EXPECT_EQ(ErrorOf(kMinimal, alone), "no error");
  for (const std::string term :
       {"reward.terms={kimi_length: {}}", "reward.terms={tag: {term: adactrl}}",
        "verifiers.math={builtin: kimi_length}"}) {
    std::vector<std::string> overrides = alone;
    overrides.push_back(term);
    EXPECT_THAT(ErrorOf(kMinimal, overrides), HasSubstr("group_reward_needs_a_group")) << term;
    EXPECT_THAT(ErrorOf(kMinimal, {term}), HasSubstr("no error")) << term;
  }
}

TEST(Config, CriticAndPromptsAreCheckedByField) {
  EXPECT_THAT(ErrorOf(kMinimal, {"critic.pretrain_steps=5"}), HasSubstr("critic.pretrain_steps"));
  EXPECT_THAT(ErrorOf(kMinimal, {"critic.steps_per_rollout=0"}),
              HasSubstr("critic.steps_per_rollout"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.ranks=65"}), HasSubstr("trainer.ranks"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.zero=1"}), HasSubstr("rule zero_needs_ranks"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.ranks=2", "trainer.zero=2", "trainer.threads=2"}),
              HasSubstr("rule zero_2_needs_one_thread"));
  EXPECT_THAT(ErrorOf(kMinimal, {"lora.rank=8", "trainer.dtype=bfloat16"}),
              HasSubstr("rule lora_is_float32"));
  EXPECT_THAT(ErrorOf(kMinimal, {"lora.rank=8", "lora.target_modules=[router]"}),
              HasSubstr("lora.target_modules: 'router'"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.dtype=float16"}), HasSubstr("trainer.dtype"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.rank_transport=pigeon"}), HasSubstr("shared_memory"));
  EXPECT_THAT(ErrorOf(kMinimal, {"trainer.updates_per_step=0"}),
              HasSubstr("trainer.updates_per_step"));
  EXPECT_THAT(ErrorOf(kMinimal, {"prompts.order=random"}), HasSubstr("prompts.order"));
  EXPECT_THAT(ErrorOf(kMinimal, {"prompts.domain_weights={math: -1}"}),
              HasSubstr("prompts.domain_weights.math"));
  EXPECT_THAT(ErrorOf(kMinimal, {"prompts.domain_weights={math: 0}"}),
              HasSubstr("prompts.domain_weights"));
  EXPECT_THAT(ErrorOf(kMinimal, {"prompts.pass_low=0.8", "prompts.pass_high=0.2"}),
              HasSubstr("prompts.pass_low"));
}

TEST(Config, BrokenYamlAndDuplicateKeysAreErrors) {
  EXPECT_THAT(ErrorOf("run: [1"), HasSubstr("c.yaml"));
  EXPECT_THAT(ErrorOf("run: {seed: 1, seed: 2}"), HasSubstr("'seed' stands twice"));
  EXPECT_THAT(ErrorOf(kMinimal, {"no-equals-sign"}), HasSubstr("expected a.b=value"));
}

TEST(Config, ResolvedJsonReadsBackToItself) {
  auto config = ParseConfig(kMinimal, "c.yaml",
                            {"run.seed=7", "verifiers={v: {address: \"h:1\"}}", "data.verifier=v"});
  ASSERT_TRUE(config.ok()) << config.status();
  const Json json = ToJson(*config);
  auto again = ConfigFromJson(json);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToJson(*again), json);
}

TEST(Config, TheReferencePageListsEveryLeaf) {
  const std::string page = ConfigReferenceMarkdown();
  EXPECT_THAT(page, HasSubstr("`trainer.max_staleness_versions` | `4`"));
  EXPECT_THAT(page, HasSubstr("`verifiers.<name>.builtin`"));
  EXPECT_THAT(page, HasSubstr("`algorithm.conventions.cispo_bound`"));
}

}  // namespace
}  // namespace tramontane
