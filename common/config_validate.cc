// What a configuration may not say: ranges, enumerations, and combinations that cannot work.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "common/algorithm_rules.h"
#include "common/config.h"
#include "common/episode_params.h"
#include "common/kind_rules.h"
#include "common/scorers.h"
#include "common/stages.h"
#include "common/status.h"

namespace tramontane {
namespace {

std::string Trim(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// Collects the first broken rule; each check names its field.
class Rules {
 public:
  void Require(bool holds, const std::string& field, const std::string& what) {
    if (!holds && status_.ok()) status_ = absl::InvalidArgumentError(field + ": " + what);
  }
  void AtLeast(const std::string& field, double value, double low) {
    Require(value >= low, field, "must be at least " + Trim(low) + ", is " + Trim(value));
  }
  void Between(const std::string& field, double value, double low, double high) {
    Require(value >= low && value <= high, field,
            "must be between " + Trim(low) + " and " + Trim(high) + ", is " + Trim(value));
  }
  void OneOf(const std::string& field, const std::string& value,
             std::initializer_list<const char*> allowed) {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::string list;
    for (const char* item : allowed) list += (list.empty() ? "" : ", ") + std::string(item);
    Require(false, field, "'" + value + "' is not one of " + list);
  }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

void CheckRunAndData(const RunConfig& c, Rules& r) {
  r.AtLeast("run.max_steps", static_cast<double>(c.run.max_steps), 0);
  r.AtLeast("run.stop_seconds", c.run.stop_seconds, 0);
  r.Require(c.run.name.find('/') == std::string::npos, "run.name", "must not contain '/'");
  r.Require(c.model.path.empty() != c.model.init.empty(), "model.path",
            "set either model.path or model.init");
  r.Require(c.model.init.empty() || !c.model.init_tokenizer.empty(), "model.init_tokenizer",
            "is needed with model.init");
  r.OneOf("data.shape", c.data.shape,
          {"auto", "tramontane", "verl", "trl", "openrlhf", "verifiers"});
}

void CheckSandbox(const SandboxSection& c, Rules& r) {
  r.Between("sandbox.programs", c.programs, 1, 256);
  r.OneOf("sandbox.namespaces", c.namespaces, {"auto", "require", "off"});
  r.OneOf("sandbox.required_tier", c.required_tier, {"A", "B"});
  r.Require(!c.python.empty() || !c.cxx.empty(), "sandbox.python",
            "and sandbox.cxx are both empty: no program could run");
  r.Between("sandbox.max_time_limit_s", c.max_time_limit_s, 0.1, 3600);
  r.Between("sandbox.max_memory_mib", c.max_memory_mib, 64, 1 << 20);
  r.Between("sandbox.max_output_kib", c.max_output_kib, 1, 1 << 18);
  for (const std::string& path : {c.python, c.cxx}) {
    r.Require(path.empty() || path.front() == '/', "sandbox",
              "'" + path + "' is not an absolute path");
  }
  for (const std::string& path : c.readonly_paths) {
    r.Require(path.size() > 1 && path.front() == '/', "sandbox.readonly_paths",
              "'" + path + "' is not an absolute path");
  }
}

// What no model could do; the model's own range is checked when it is known.
void CheckRoom(const ThinkingParams& thinking, int32_t max_new_tokens, Rules& r) {
  const int32_t reserve = thinking.reserve.value_or(0);
  r.Require(reserve >= 0 && reserve < max_new_tokens, "rollout.thinking.reserve",
            "must be from 0 to below rollout.max_new_tokens");
  r.Require(thinking.budget.value_or(0) <= max_new_tokens - reserve, "rollout.thinking.budget",
            "does not fit into rollout.max_new_tokens less the reserve");
}

void CheckRollout(const RolloutSection& c, Rules& r) {
  r.Between("rollout.samples_per_group", c.samples_per_group, 1, 4096);
  r.AtLeast("rollout.timeout_s", c.timeout_s, 0);
  r.Between("rollout.max_new_tokens", c.max_new_tokens, 1, 1 << 20);
  r.Require(c.temperature > 0 && c.temperature <= 10, "rollout.temperature", "must be in (0, 10]");
  r.Between("rollout.repetition_tokens", c.repetition_tokens, 0, 1 << 16);
  r.AtLeast("rollout.repetition_times", c.repetition_times, 2);
  r.Require(c.repetition_tokens == 0 || c.repetition_tokens >= c.repetition_times,
            "rollout.repetition_tokens",
            "cannot hold a piece repetition_times over (rule repetition_fits_its_window)");
  r.AtLeast("rollout.segment_tokens", c.segment_tokens, 0);
  r.Between("rollout.correction.samples", c.correction.samples, 0, 256);
  r.OneOf("rollout.correction.group_by", c.correction.group_by, {"answer", "prompt"});
  const auto& phrases = c.correction.phrases;
  r.Require(c.correction.samples == 0 ||
                (!phrases.empty() &&
                 std::ranges::none_of(phrases, [](const auto& phrase) { return phrase.empty(); })),
            "rollout.correction.phrases", "needs at least one phrase, and none that is empty");
  const char* why =
      "truncated sampling would bias the importance ratio; only its default can be trained with";
  r.Require(c.top_p == 1.0, "rollout.top_p", why);
  r.Require(c.top_k == 0, "rollout.top_k", why);
  r.Require(c.min_p == 0.0, "rollout.min_p", why);
  if (!c.thinking.empty()) {
    const absl::StatusOr<ThinkingParams> thinking = ThinkingFromJson(c.thinking);
    r.Require(thinking.ok(), "rollout.thinking", std::string(thinking.status().message()));
    if (thinking.ok()) CheckRoom(*thinking, c.max_new_tokens, r);
  }
}

void CheckPrompts(const PromptSection& c, Rules& r) {
  r.OneOf("prompts.order", c.order, {"pass", "priority", "gaussian"});
  double total = 0;
  for (const auto& [domain, weight] : c.domain_weights) {
    r.Require(weight.is_number() && weight.get<double>() >= 0, "prompts.domain_weights." + domain,
              "must be a number, at least 0");
    if (weight.is_number()) total += weight.get<double>();
  }
  r.Require(c.domain_weights.empty() || total > 0, "prompts.domain_weights",
            "no domain has a weight above 0");
  r.Require(!c.label_low || !c.label_high || *c.label_low <= *c.label_high, "prompts.label_low",
            "must not be above label_high");
  const double low = c.pass_low.value_or(0), high = c.pass_high.value_or(1);
  r.Require(0 <= low && low <= high && high <= 1, "prompts.pass_low",
            "pass_low and pass_high are shares with 0 ≤ low ≤ high ≤ 1");
  r.Between("prompts.outside_probability", c.outside_probability, 0, 1);
  r.Between("prompts.pass_min_samples", c.pass_min_samples, 1, 1 << 20);
  r.AtLeast("prompts.pass_memory_samples", c.pass_memory_samples, 0);
  r.Between("prompts.target_pass_rate", c.target_pass_rate, 0, 1);
  r.Between("prompts.target_deviation", c.target_deviation, 0, 1);
}

void CheckSft(const RunConfig& config, Rules& r) {
  const SftSection& c = config.sft;
  // The rows of a chain's stages come from its other stages; their steps may be the chain's.
  r.Require(c.data.empty() == (c.steps == 0) || !config.stages.empty(), "sft.steps",
            "set sft.data and sft.steps together");
  r.AtLeast("sft.steps", static_cast<double>(c.steps), 0);
  r.AtLeast("sft.examples_per_step", c.examples_per_step, 1);
  r.Require(c.learning_rate > 0, "sft.learning_rate", "must be positive");
  r.Between("sft.decay_fraction", c.decay_fraction, 0, 1);
  r.Require(c.max_grad_norm > 0, "sft.max_grad_norm", "must be positive");
}

void CheckAlgorithm(const AlgorithmConfig& c, Rules& r) {
  r.OneOf("algorithm.advantage.baseline", c.advantage.baseline,
          {"none", "group_mean", "length_weighted_mean", "leave_one_out", "value"});
  r.OneOf("algorithm.advantage.scale", c.advantage.scale,
          {"none", "group_std", "minibatch_std", "batch_std", "token_whiten"});
  r.OneOf("algorithm.advantage.sign", c.advantage.sign, {"both", "positive_only"});
  r.Between("algorithm.advantage.ddof", c.advantage.ddof, 0, 1);
  r.OneOf("algorithm.objective.kind", c.objective.kind, {"ppo_clip", "pg", "cispo", "opmd", "nll"});
  r.OneOf("algorithm.objective.ratio", c.objective.ratio, {"token", "sequence", "none"});
  r.OneOf("algorithm.objective.log_z", c.objective.log_z, {"mean", "logsumexp"});
  r.AtLeast("algorithm.objective.clip_low", c.objective.clip_low, 0);
  r.AtLeast("algorithm.objective.clip_high", c.objective.clip_high, 0);
  r.OneOf("algorithm.aggregation.mode", c.aggregation.mode,
          {"token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "token_sum_const"});
  r.OneOf("algorithm.aggregation.scope", c.aggregation.scope, {"group", "minibatch", "global"});
  r.OneOf("algorithm.kl.kind", c.kl.kind, {"none", "k1", "k2", "k3", "full"});
  r.OneOf("algorithm.kl.where", c.kl.where, {"loss", "reward", "token_advantage"});
  r.OneOf("algorithm.kl.reference", c.kl.reference,
          {"initial", "reset_every_n", "iterate", "teacher"});
  r.OneOf("algorithm.correction.kind", c.correction.kind,
          {"none", "truncate", "mask", "geometric_reject"});
  r.OneOf("algorithm.correction.level", c.correction.level, {"token", "sequence"});
  r.OneOf("algorithm.correction.anchor", c.correction.anchor, {"recomputed", "behaviour"});
  r.OneOf("algorithm.entropy.kind", c.entropy.kind, {"none", "fixed", "adaptive"});
  r.OneOf("algorithm.conventions.singleton_group", c.conventions.singleton_group, {"zero", "raw"});
  r.OneOf("algorithm.conventions.empty_sequences", c.conventions.empty_sequences,
          {"skip", "count"});
  r.OneOf("algorithm.conventions.cispo_bound", c.conventions.cispo_bound, {"relative", "absolute"});
  r.OneOf("algorithm.conventions.constant_per", c.conventions.constant_per, {"batch", "sequence"});
  r.OneOf("algorithm.conventions.batch_std_over", c.conventions.batch_std_over,
          {"sequences", "tokens"});
  r.AtLeast("algorithm.conventions.denominator_epsilon", c.conventions.denominator_epsilon, 0);
  r.AtLeast("algorithm.advantage.reward_weight", c.advantage.reward_weight, 0);
  r.AtLeast("algorithm.advantage.epsilon", c.advantage.epsilon, 0);
  r.Between("algorithm.advantage.gamma", c.advantage.gamma, 0, 1);
  r.Between("algorithm.advantage.lambda_policy", c.advantage.lambda_policy, 0, 1);
  r.Between("algorithm.advantage.lambda_value", c.advantage.lambda_value, 0, 1);
  r.AtLeast("algorithm.kl.coefficient", c.kl.coefficient, 0);
  r.AtLeast("algorithm.auxiliary.positive_nll", c.auxiliary.positive_nll, 0);
  r.AtLeast("algorithm.auxiliary.value_coefficient", c.auxiliary.value_coefficient, 0);
  r.AtLeast("algorithm.filter.repetition_window", static_cast<double>(c.filter.repetition_window),
            0);
  r.Between("algorithm.filter.repetition_probability", c.filter.repetition_probability, 0, 1);
  r.OneOf("algorithm.filter.gibberish", c.filter.gibberish, {"drop", "mask"});
  r.OneOf("algorithm.filter.repetition", c.filter.repetition, {"drop", "mask"});
  r.AtLeast("algorithm.filter.segment_max_age_versions",
            static_cast<double>(c.filter.segment_max_age_versions.value_or(0)), 0);
  r.OneOf("algorithm.filter.zero_variance", c.filter.zero_variance, {"drop", "keep"});
  r.OneOf("algorithm.filter.on", c.filter.on, {"reward", "accuracy"});
  r.OneOf("algorithm.filter.truncated", c.filter.truncated,
          {"keep", "mask_after", "mask_before", "drop"});
}

void CheckRanks(const TrainerSection& t, Rules& r) {
  r.Between("trainer.ranks", t.ranks, 1, 64);
  r.OneOf("trainer.rank_launch", t.rank_launch, {"local", "external"});
  r.OneOf("trainer.rank_transport", t.rank_transport, {"auto", "shared_memory", "tcp"});
  r.Require(t.rank_join_timeout_s > 0, "trainer.rank_join_timeout_s", "must be positive");
  r.Require(t.rank_timeout_s > 0, "trainer.rank_timeout_s", "must be positive");
  r.Between("trainer.zero", t.zero, 0, 2);
  r.Require(t.zero == 0 || t.ranks > 1, "trainer.zero",
            "one rank has nobody to share with: set trainer.ranks (rule zero_needs_ranks)");
  r.Require(t.zero < 2 || t.threads == 1, "trainer.threads",
            "with trainer.zero 2 gradients are handed over within the backward pass, one thread a "
            "rank: use ranks in place of threads (rule zero_2_needs_one_thread)");
}

void CheckLora(const RunConfig& c, Rules& r) {
  r.Between("lora.rank", c.lora.rank, 0, 1 << 16);
  r.OneOf("trainer.dtype", c.trainer.dtype, {"float32", "bfloat16"});
  if (c.lora.rank == 0) return;
  r.Require(c.lora.alpha > 0, "lora.alpha", "must be positive");
  r.Require(!c.lora.target_modules.empty(), "lora.target_modules", "must name a module");
  for (const std::string& module : c.lora.target_modules) {
    r.OneOf("lora.target_modules", module,
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"});
  }
  r.Require(c.trainer.dtype == "float32", "trainer.dtype",
            "adapters are merged in float32: use float32, or no lora (rule lora_is_float32)");
}

void CheckTrainer(const RunConfig& c, Rules& r) {
  const TrainerSection& t = c.trainer;
  r.Between("trainer.groups_per_step", t.groups_per_step, 1, 1 << 20);
  r.Between("trainer.max_staleness_versions", t.max_staleness_versions, 0, 1024);
  r.Require(t.learning_rate >= 0, "trainer.learning_rate", "must not be negative");
  r.OneOf("trainer.schedule", t.schedule, {"constant", "linear"});
  r.Between("trainer.adam_beta1", t.adam_beta1, 0, 0.999999);
  r.Between("trainer.adam_beta2", t.adam_beta2, 0, 0.999999);
  r.Require(t.adam_epsilon > 0, "trainer.adam_epsilon", "must be positive");
  r.Require(t.max_grad_norm > 0, "trainer.max_grad_norm", "must be positive");
  r.Between("trainer.updates_per_step", t.updates_per_step, 1, 1 << 16);
  r.AtLeast("trainer.optimiser_reset_interval_steps",
            static_cast<double>(t.optimiser_reset_interval_steps), 0);
  r.Between("trainer.threads", t.threads, 1, 1024);
  r.AtLeast("trainer.microbatch_tokens", t.microbatch_tokens, 1);
  r.AtLeast("trainer.max_nonfinite_steps", t.max_nonfinite_steps, 1);
  r.AtLeast("trainer.checkpoint_interval_steps", static_cast<double>(t.checkpoint_interval_steps),
            1);
  r.AtLeast("trainer.checkpoint_keep_last", t.checkpoint_keep_last, 1);
  r.AtLeast("trainer.mtp_weight", t.mtp_weight, 0);
  r.OneOf("trainer.starvation", t.starvation, {"short", "wait", "pause"});
  r.Between("trainer.starvation_steps", t.starvation_steps, 1, 1 << 20);
  r.AtLeast("trainer.tokens_per_step", static_cast<double>(t.tokens_per_step), 0);
  r.Require(t.logprob_gap_alarm > 0, "trainer.logprob_gap_alarm", "must be positive");
  r.AtLeast("trainer.eval_interval_steps", static_cast<double>(t.eval_interval_steps), 0);
  r.AtLeast("trainer.publish_interval_steps", t.publish_interval_steps, 1);
  r.Require(
      t.publish_interval_steps <= t.max_staleness_versions + 1, "trainer.publish_interval_steps",
      "must not exceed max_staleness_versions + 1: every rollout would be too old to train on");
  r.Require(c.rollout.samples_per_group > 1 || c.algorithm.advantage.baseline == "none" ||
                c.algorithm.advantage.baseline == "value",
            "rollout.samples_per_group",
            "a group of one has no group baseline: use more samples, or "
            "algorithm.advantage.baseline none "
            "(rule group_baseline_needs_a_group)");
}

// Numbers of a step's line (docs/cli.md) that every run, or a run of that algorithm, has.
constexpr const char* kBandNumbers[] = {
    "reward_mean",           "reward_10",         "accuracy_sampled",
    "loss",                  "grad_norm",         "staleness_mean",
    "logprob_gap_mean",      "logprob_gap_max",   "probe_gap",
    "output_tokens_mean",    "truncated_share",   "response_tokens",   "repetition_share",
    "policy.neg_logprob",    "policy.entropy",    "policy.kl",
    "policy.anchor_kl",      "policy.ratio_mean", "policy.ratio_max",
    "policy.clip_low",       "policy.clip_high",  "policy.mismatch_kl",
    "policy.importance_ess_ratio", "policy.importance_chi2", "policy.value_explained_variance"};

void CheckBands(const RunConfig& c, Rules& r) {
  for (const auto& [name, band] : c.bands) {
    const std::string field = "bands." + name;
    std::string list;
    bool known = false;
    for (const char* number : kBandNumbers) {
      list += (list.empty() ? "" : ", ") + std::string(number);
      known = known || name == number;
    }
    r.Require(known, field, "is not one of " + list);
    r.Require(band.low || band.high, field, "needs low or high");
    r.Require(!band.low || !band.high || *band.low <= *band.high, field + ".low",
              "must not be above high");
    r.AtLeast(field + ".patience_steps", band.patience_steps, 1);
    r.OneOf(field + ".action", band.action, {"warn", "dump", "pause"});
  }
}

void CheckCritic(const RunConfig& c, Rules& r) {
  const CriticSection& critic = c.critic;
  r.Require(critic.learning_rate >= 0, "critic.learning_rate", "must not be negative");
  r.AtLeast("critic.warmup_steps", static_cast<double>(critic.warmup_steps), 0);
  r.Between("critic.steps_per_rollout", critic.steps_per_rollout, 1, 1 << 16);
  r.AtLeast("critic.pretrain_steps", static_cast<double>(critic.pretrain_steps), 0);
  r.Require(critic.pretrain_steps == 0 || c.algorithm.advantage.baseline == "value",
            "critic.pretrain_steps",
            "pre-trains the critic that algorithm.advantage.baseline value has");
  r.AtLeast("critic.weight_decay", critic.weight_decay, 0);
  r.Require(critic.max_grad_norm > 0, "critic.max_grad_norm", "must be positive");
}

// A second layer is one more prompt to the model, and what it gives is trained on.
void CheckCorrection(const RunConfig& c, Rules& r) {
  if (c.rollout.correction.samples == 0) return;
  const bool turns = std::ranges::any_of(
      c.verifiers, [](const auto& entry) { return IsEnvironment(entry.second); });
  r.Require(!turns, "rollout.correction.samples",
            "an environment's turns are not corrected (rule corrections_take_no_turns)");
  r.Require(c.run.kind != "reject_sample", "rollout.correction.samples",
            "reject_sample keeps answers alone (rule corrections_are_trained_on)");
  r.Require(c.rollout.correction.samples > 1 || c.rollout.correction.group_by == "prompt" ||
                c.algorithm.advantage.baseline == "none" ||
                c.algorithm.advantage.baseline == "value",
            "rollout.correction.samples",
            "one correction of an answer has no group to be compared with: take more, or group_by "
            "prompt (rule group_baseline_needs_a_group)");
}

// A term that compares a completion with the others of its group (docs/graders.md) needs some.
void CheckGroupTerm(const RunConfig& c, const std::string& field, const std::string& term,
                    Rules& r) {
  if (term != "kimi_length" && term != "adactrl") return;
  r.Require(c.rollout.samples_per_group > 1, field,
            term +
                " compares the samples of a group: rollout.samples_per_group 1 leaves nothing to "
                "compare (rule group_reward_needs_a_group)");
  r.Require(c.rollout.correction.samples == 0, field,
            term +
                " would compare answers with corrections: it needs rollout.correction.samples 0 "
                "(rule layers_are_compared_apart)");
}

void CheckGroupTerms(const RunConfig& c, Rules& r) {
  for (const auto& [name, settings] : c.reward.terms) {
    const bool named =
        settings.is_object() && settings.contains("term") && settings["term"].is_string();
    CheckGroupTerm(c, "reward.terms." + name, named ? settings["term"].get<std::string>() : name,
                   r);
  }
  for (const auto& [name, v] : c.verifiers)
    CheckGroupTerm(c, "verifiers." + name + ".builtin", v.builtin, r);
}

void CheckGenerator(const GeneratorSection& g, const RolloutSection& rollout, Rules& r) {
  r.Between("generator.count", g.count, 0, 1024);
  r.Between("generator.threads", g.threads, 1, 1024);
  r.Between("generator.max_running_sequences", g.max_running_sequences, 1, 1 << 16);
  r.AtLeast("generator.max_waiting_sequences", g.max_waiting_sequences,
            rollout.samples_per_group);
  r.Between("generator.kv_block_tokens", g.kv_block_tokens, 1, 1024);
  r.AtLeast("generator.kv_blocks", g.kv_blocks, 1);
  r.Require(int64_t{g.kv_blocks} * g.kv_block_tokens > rollout.max_new_tokens,
            "generator.kv_blocks",
            "the KV cache (" + std::to_string(int64_t{g.kv_blocks} * g.kv_block_tokens) +
                " tokens) cannot hold one completion of rollout.max_new_tokens");
  r.AtLeast("generator.prefill_chunk_tokens", g.prefill_chunk_tokens, 1);
  r.Between("generator.ngram_draft_tokens", g.ngram_draft_tokens, 0, 64);
  r.AtLeast("generator.claim_groups", g.claim_groups, 1);
  r.AtLeast("generator.lease_s", g.lease_s, 1);
  r.OneOf("generator.device", g.device, {"cpu", "cuda"});
  r.OneOf("generator.engine", g.engine, {"fused", "torch"});
  r.OneOf("generator.weights_dtype", g.weights_dtype, {"float32", "bfloat16", "int8"});
  r.Require(g.engine == "fused" || g.weights_dtype == "float32", "generator.weights_dtype",
            "only the fused engine rounds weights: use float32, or generator.engine fused");
  r.Between("generator.max_running_searches", g.max_running_searches, 1, 1024);
  r.Between("generator.max_waiting_searches", g.max_waiting_searches, 0, 1 << 20);
  r.Between("generator.max_sessions", g.max_sessions, 0, 1 << 20);
  r.Between("generator.session_idle_timeout_s", g.session_idle_timeout_s, 1, 7 * 86400);
  const bool any_port = g.bind.size() >= 2 && g.bind.ends_with(":0");
  r.Require(g.count <= 1 || any_port, "generator.bind",
            "'" + g.bind + "' is one address for " + std::to_string(g.count) +
                " generators (generator.count): use port 0, with which each finds its own");
  r.Between("generator.http_port", g.http_port, 0, 65535 - std::max(0, g.count - 1));
  r.Between("generator.http_max_connections", g.http_max_connections, 1, 1 << 16);
  r.Between("generator.http_max_body_mib", g.http_max_body_mib, 1, 1 << 10);
  r.Between("generator.http_timeout_s", g.http_timeout_s, 0.1, 86400);
  r.Between("generator.http_idle_timeout_s", g.http_idle_timeout_s, 1, 3600);
}

void CheckServices(const RunConfig& c, Rules& r) {
  for (const auto& [name, v] : c.verifiers) {
    const std::string field = "verifiers." + name;
    r.Require(WhyReserved(name).empty(), field, std::string(WhyReserved(name)));
    const int ways = !v.builtin.empty() + !v.address.empty() + !v.command.empty() + !v.use.empty();
    r.Require(ways == 1, field, "set exactly one of builtin, address, command and use");
    const auto shadow = c.verifiers.find(v.shadow);
    r.Require(v.shadow.empty() || shadow != c.verifiers.end(), field + ".shadow",
              "'" + v.shadow + "' is not in `verifiers`");
    r.Require(v.shadow != name && (shadow == c.verifiers.end() || shadow->second.shadow.empty()),
              field + ".shadow", "a shadow has no shadow of its own");
    r.Require(v.shadow_fraction >= 0 && v.shadow_fraction <= 1, field + ".shadow_fraction",
              "must be between 0 and 1");
    r.Require(v.canary_fraction >= 0 && v.canary_fraction <= 1, field + ".canary_fraction",
              "must be between 0 and 1");
    r.Require(v.canary_fraction == 0 || !v.shadow.empty(), field + ".canary_fraction",
              "needs a `shadow`, which does the scoring");
    r.Require(!v.timeout_reward || std::isfinite(*v.timeout_reward), field + ".timeout_reward",
              "must be finite");
    r.Require(v.request_timeout_s > 0, field + ".request_timeout_s", "must be positive");
    r.Between(field + ".max_attempts", v.max_attempts, 1, 100);
  }
  r.Require(c.verifiers.contains(c.data.verifier), "data.verifier",
            "'" + c.data.verifier + "' is not in `verifiers`");
  r.AtLeast("reward.format", c.reward.format, 0);
  r.AtLeast("reward.correct", c.reward.correct, 0);
  r.AtLeast("reward.language", c.reward.language, 0);
  r.AtLeast("reward.length_penalty", c.reward.length_penalty, 0);
  r.Require(
      c.reward.length_penalty == 0 || (c.reward.length_cache_tokens > 0 &&
                                       c.reward.length_max_tokens > c.reward.length_cache_tokens),
      "reward.length_penalty", "needs 0 < length_cache_tokens < length_max_tokens");
  r.OneOf("redis.appendfsync", c.redis.appendfsync, {"always", "everysec", "no"});
  r.Require(c.redis.command_timeout_s > 0, "redis.command_timeout_s", "must be positive");
  r.OneOf("weights.transport", c.weights.transport, {"auto", "shared_memory", "tcp"});
  r.Require(c.weights.prepare_timeout_s > 0, "weights.prepare_timeout_s", "must be positive");
  r.Require(c.weights.commit_timeout_s > 0, "weights.commit_timeout_s", "must be positive");
  r.Require(c.weights.probe_tolerance > 0, "weights.probe_tolerance", "must be positive");
}

}  // namespace

absl::Status Validate(const RunConfig& config) {
  Rules rules;
  CheckSandbox(config.sandbox, rules);
  CheckRunAndData(config, rules);
  CheckPrompts(config.prompts, rules);
  CheckRollout(config.rollout, rules);
  CheckSft(config, rules);
  CheckAlgorithm(config.algorithm, rules);
  CheckTrainer(config, rules);
  CheckRanks(config.trainer, rules);
  CheckLora(config, rules);
  CheckCritic(config, rules);
  CheckBands(config, rules);
  CheckGroupTerms(config, rules);
  CheckCorrection(config, rules);
  CheckGenerator(config.generator, config.rollout, rules);
  CheckServices(config, rules);
  RETURN_IF_ERROR(rules.status());
  RETURN_IF_ERROR(CheckEnvironments(config.verifiers));
  RETURN_IF_ERROR(CheckKindRules(config));
  RETURN_IF_ERROR(CheckAlgorithmRules(config.algorithm));
  RETURN_IF_ERROR(ValidateSchedules(config));
  return ValidateStages(config);
}

absl::Status ValidateAlgorithm(const AlgorithmConfig& algorithm) {
  Rules rules;
  CheckAlgorithm(algorithm, rules);
  RETURN_IF_ERROR(rules.status());
  return CheckAlgorithmRules(algorithm);
}

absl::Status ValidateGenerator(const GeneratorSection& generator) {
  Rules rules;
  CheckGenerator(generator, RolloutSection(), rules);
  return rules.status();
}

Json DerivedNumbers(const RunConfig& config) {
  const int64_t samples =
      int64_t{config.trainer.groups_per_step} * SamplesOf(config.rollout);
  const int64_t in_flight =
      int64_t{config.trainer.max_staleness_versions + 1} * config.trainer.groups_per_step;
  return {{"samples_per_step", samples},
          {"most_tokens_per_step", samples * config.rollout.max_new_tokens},
          {"most_groups_in_flight", in_flight},
          {"most_sequences_in_flight", in_flight * SamplesOf(config.rollout)},
          {"running_sequences_all_generators",
           int64_t{config.generator.count} * config.generator.max_running_sequences},
          {"kv_cache_tokens_per_generator",
           int64_t{config.generator.kv_blocks} * config.generator.kv_block_tokens},
          {"groups_in_run", config.run.max_steps * config.trainer.groups_per_step},
          {"checkpoints_in_run", config.run.max_steps / config.trainer.checkpoint_interval_steps},
          {"sft_examples", config.sft.steps * config.sft.examples_per_step}};
}

}  // namespace tramontane
