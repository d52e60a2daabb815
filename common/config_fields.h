// The one list of configuration fields: name, member and one line of help. Parsing, the resolved
// JSON and the reference page are visitors over it. Included by common/config*.cc alone.
#pragma once

#include "common/config.h"

namespace tramontane {

template <class V>
void Visit(V& v, RunSection& s) {
  v("name", s.name, "Run name; empty: made from the dataset, the model and a short id.");
  v("kind", s.kind,
    "What the run does: rl, sft, reject_sample, distill, dpo, merge or length_predictor "
    "(docs/stages.md).");
  v("output_dir", s.output_dir, "The run directory is <output_dir>/<name>.");
  v("seed", s.seed, "Seed of everything random in the run.");
  v("max_steps", s.max_steps, "Optimiser steps of the RL stage.");
  v("stop_reward", s.stop_reward,
    "Stop when the mean sampled reward of the last stop_reward_window_steps reaches it; 0: off.");
  v("stop_reward_window_steps", s.stop_reward_window_steps, "Steps that stop_reward looks at.");
  v("stop_seconds", s.stop_seconds, "Stop the RL stage after this much wall time; 0: off.");
  v("stop_accuracy", s.stop_accuracy, "Stop when a held-out accuracy reaches it; 0: off.");
  v("stop_stale_evaluations", s.stop_stale_evaluations,
    "Stop when so many evaluations in a row did not beat the best before them; 0: off.");
  v("stage", s.stage, "Name of the stage in its chain; filled in by `tramontane run`.");
  v("stage_number", s.stage_number, "Its place in the chain, from 1; filled in.");
  v("stage_count", s.stage_count, "Stages of the chain; filled in.");
}

template <class V>
void Visit(V& v, ModelSection& s) {
  v("path", s.path, "Hugging Face folder to start from.");
  v("init", s.init, "config.json fields of a randomly initialised model, in place of `path`.");
  v("init_tokenizer", s.init_tokenizer, "Folder with the tokenizer files that go with `init`.");
}

template <class V>
void Visit(V& v, DataSection& s) {
  v("train", s.train, "JSONL file of training prompts.");
  v("eval", s.eval, "JSONL file of held-out prompts; empty: no held-out evaluation.");
  v("shape", s.shape, "Row shape: auto, tramontane, verl, trl, openrlhf or verifiers.");
  v("verifier", s.verifier, "Verifier of rows that name none.");
  v("apply_chat_template", s.apply_chat_template,
    "Wrap plain prompts as one user message; rows with messages always use the template.");
  v("shuffle", s.shuffle, "Shuffle the rows anew in every pass.");
}

template <class V>
void Visit(V& v, PromptSection& s) {
  v("order", s.order,
    "pass: every row as often as the others; priority: by 1 − pass rate; gaussian: pass rates near "
    "a drawn target.");
  v("domain_key", s.domain_key, "A row's domain is its parameter of this name, or else its verifier.");
  v("label_key", s.label_key, "A row's label is its numeric parameter of this name.");
  v("domain_weights", s.domain_weights,
    "Shares of the domains: {math: 3, code: 1}; empty: by their rows.");
  v("label_low", s.label_low, "Rows with a smaller label are not drawn; null: off.");
  v("label_high", s.label_high, "Rows with a larger label are not drawn; null: off.");
  v("pass_low", s.pass_low, "Rows with a smaller pass rate are set aside; null: off.");
  v("pass_high", s.pass_high, "Rows with a larger pass rate are set aside; null: off.");
  v("outside_probability", s.outside_probability,
    "Chance that a prompt is drawn from what was set aside.");
  v("pass_min_samples", s.pass_min_samples,
    "Samples before a row's pass rate counts; a row's own params.pass_rate weighs as many.");
  v("pass_memory_samples", s.pass_memory_samples,
    "A pass rate is over about the last so many samples; 0: over all.");
  v("target_pass_rate", s.target_pass_rate, "Mean of the targets of order gaussian.");
  v("target_deviation", s.target_deviation, "Standard deviation of the targets of order gaussian.");
}

template <class V>
void Visit(V& v, CorrectionSection& s) {
  v("samples", s.samples,
    "Corrections sampled of each answer, from prompt, answer and a phrase: a second layer with "
    "groups "
    "of its own (MGRPO). 0: none.");
  v("phrases", s.phrases,
    "What asks for the correction, as the model shall see it: one is drawn for each answer.");
  v("group_by", s.group_by,
    "Corrections are compared with those of the same answer, or with all of the prompt.");
}

template <class V>
void Visit(V& v, RolloutSection& s) {
  v("samples_per_group", s.samples_per_group, "Samples of one prompt (G).");
  v("max_new_tokens", s.max_new_tokens, "Most tokens sampled for one completion.");
  v("temperature", s.temperature, "Sampling temperature of training rollouts.");
  v("top_p", s.top_p, "Nucleus sampling; training refuses values below 1.");
  v("top_k", s.top_k, "Top-k sampling; training refuses values above 0.");
  v("min_p", s.min_p, "Min-p sampling; training refuses values above 0.");
  v("timeout_s", s.timeout_s,
    "Wall-clock time of one sample, from when an engine takes its group; 0: none. A sample that is not "
    "finished by then leaves its group (generation_timeout), and the others go on.");
  v("repetition_tokens", s.repetition_tokens,
    "A sample ends (finish reason repetition) where its last so many tokens are one piece, "
    "repetition_times over; 0: never. The reward term `unfinished` punishes it.");
  v("repetition_times", s.repetition_times, "See repetition_tokens.");
  v("segment_tokens", s.segment_tokens,
    "After so many tokens in one go a sample makes room for those that wait, and goes on behind "
    "them (partial rollouts); 0: no bound.");
  v("correction", s.correction, "");
  v("stop", s.stop, "Strings that end a completion.");
  v("thinking", s.thinking,
    "Thinking control; empty: none. {budget, effort, tag, mode, min_tokens, on_exhaust, reserve, "
    "extensions, extension_text, guidance, guidance_draw}: docs/thinking.md. Tokens put in are "
    "never trained on.");
}

template <class V>
void Visit(V& v, SftSection& s) {
  v("data", s.data,
    "JSONL rows: {prompt, completion}, of dpo {prompt, chosen, rejected}. Empty: no cold start.");
  v("steps", s.steps,
    "Optimiser steps of the SFT stage; so, too, of distill (logits), dpo and length_predictor.");
  v("examples_per_step", s.examples_per_step, "Examples (dpo: pairs) in one SFT step.");
  v("learning_rate", s.learning_rate, "Peak learning rate of SFT.");
  v("warmup_steps", s.warmup_steps, "Linear warm-up of SFT.");
  v("decay_fraction", s.decay_fraction,
    "The rate falls linearly to 0 over this last share of the steps.");
  v("max_grad_norm", s.max_grad_norm, "Gradient norm bound of SFT.");
  v("weight_decay", s.weight_decay, "AdamW weight decay of SFT.");
  v("eval_data", s.eval_data,
    "Held-out JSONL rows of the form of sft.data, whose loss is measured; empty: none.");
  v("eval_interval_steps", s.eval_interval_steps, "SFT steps between two held-out losses.");
  v("stop_loss", s.stop_loss,
    "The SFT stage ends when its held-out loss is at most this; 0: no such rule.");
  v("stop_stale_evaluations", s.stop_stale_evaluations,
    "… or when so many held-out losses in a row were not below the least before them; 0: no such "
    "rule.");
}

template <class V>
void Visit(V& v, DistillSection& s) {
  v("mode", s.mode,
    "logits: supervised, the teacher's next-token distributions on the rows of sft.data; "
    "on_policy: an RL run towards the teacher (preset opd).");
  v("teacher", s.teacher,
    "Hugging Face folder of the teacher; its vocabulary must be the student's. In a stage: "
    "`models`.");
  v("direction", s.direction,
    "KL of mode logits: forward, KL(teacher ‖ student), or reverse, KL(student ‖ teacher).");
  v("top_k", s.top_k,
    "Of the teacher's distribution only the k likeliest tokens count, renormalised; forward only. "
    "0: all of it.");
  v("temperature", s.temperature, "Both models' logits are divided by it, in mode logits.");
  v("nll_weight", s.nll_weight,
    "Weight of the rows' own tokens (cross-entropy) beside the KL, in mode logits.");
}

template <class V>
void Visit(V& v, DpoSection& s) {
  v("beta", s.beta, "Weight of the log-ratios: how far the policy may leave the reference.");
  v("label_smoothing", s.label_smoothing,
    "Chance that a preference is the wrong way round (conservative DPO).");
  v("length_normalised", s.length_normalised,
    "Log-ratios are means over a completion's tokens rather than sums.");
}

template <class V>
void Visit(V& v, RejectSection& s) {
  v("keep", s.keep,
    "Which samples of a prompt become rows: first_correct, shortest_correct, all_correct, best "
    "(highest reward); or pairs for dpo: pairs_best_worst, pairs_short_long.");
  v("max_per_prompt", s.max_per_prompt, "Most rows of one prompt.");
  v("length_ratio", s.length_ratio,
    "pairs_short_long rejects right answers from this many times the shortest one's length.");
  v("passes", s.passes, "Passes over data.train; the first that gives a prompt rows counts.");
  v("last_steps", s.last_steps,
    "Where rows are selected from an earlier RL stage's stored rollouts: from those of its last so "
    "many steps; 0: of all.");
}

template <class V>
void Visit(V& v, MergeSection& s) {
  v("method", s.method,
    "linear (weighted mean), task_arithmetic (base + Σ weight·(model − base)) or slerp (two "
    "models, by the second's weight).");
  v("models", s.models, "Hugging Face folders of one shape. In a stage: `models`.");
  v("weights", s.weights,
    "One a model; linear divides by their sum. Empty: all alike (task_arithmetic: 1 each, slerp: "
    "half way).");
}

template <class V>
void Visit(V& v, StageSection& s) {
  v("name", s.name, "Name: letters, digits, - and _.");
  v("kind", s.kind, "What it does, as run.kind says it.");
  v("from", s.from,
    "Model to start from: an earlier stage, base (the chain's `model`), or a folder. Empty: that "
    "of the newest earlier stage that gives one, else base.");
  v("data", s.data,
    "Rows of sft, distill (logits), dpo and length_predictor, in place of sft.data: earlier "
    "reject_sample or rl stages, or files.");
  v("models", s.models,
    "What merge merges, or the one teacher of distill: earlier stages, base, or folders.");
  v("set", s.set, "Configuration of this stage, laid over the chain's; `preset` comes in between.");
}

template <class V>
void Visit(V& v, AdvantageConfig& s) {
  v("baseline", s.baseline, "none, group_mean, length_weighted_mean, leave_one_out or value.");
  v("scale", s.scale, "none, group_std, minibatch_std, batch_std or token_whiten.");
  v("sign", s.sign, "both or positive_only.");
  v("reward_weight", s.reward_weight,
    "Factor of the verifier's reward; 0: a KL term alone teaches, as in on-policy distillation.");
  v("epsilon", s.epsilon, "Added to the standard deviation.");
  v("ddof", s.ddof, "1: unbiased standard deviation; 0: population.");
  v("gamma", s.gamma, "Discount.");
  v("lambda_policy", s.lambda_policy, "GAE λ of the policy.");
  v("lambda_value", s.lambda_value, "GAE λ of the value targets.");
  v("alpha", s.alpha, "Length-adaptive λ = 1 − 1/(α·length); null: off.");
}

template <class V>
void Visit(V& v, ObjectiveConfig& s) {
  v("kind", s.kind, "ppo_clip, pg, cispo, opmd or nll.");
  v("ratio", s.ratio, "token, sequence or none.");
  v("clip_low", s.clip_low, "Lower clip distance ε_low.");
  v("clip_high", s.clip_high, "Upper clip distance ε_high.");
  v("dual_clip", s.dual_clip, "Bound c of the loss for negative advantages; null: off.");
  v("ratio_cap", s.ratio_cap, "Bound of the unclipped ratio; null: off.");
  v("tau", s.tau, "Temperature of opmd.");
  v("log_z", s.log_z, "Normaliser of opmd: mean (the group's mean reward) or logsumexp.");
}

template <class V>
void Visit(V& v, AggregationConfig& s) {
  v("mode", s.mode, "token_mean, seq_mean_token_mean, seq_mean_token_sum or token_sum_const.");
  v("scope", s.scope, "group, minibatch or global.");
  v("constant", s.constant, "Divisor of token_sum_const.");
}

template <class V>
void Visit(V& v, KlConfig& s) {
  v("kind", s.kind, "none, k1, k2, k3 or full.");
  v("coefficient", s.coefficient, "Weight of the KL term.");
  v("where", s.where,
    "loss; reward (taken off the sample's); or token_advantage: −coefficient·k of each token is "
    "added to that token's advantage.");
  v("reference", s.reference,
    "initial, reset_every_n, or iterate: the policy that sampled the batch, which needs no copy; "
    "teacher: the model distill.teacher.");
  v("reset_interval_steps", s.reset_interval_steps, "n of reset_every_n.");
}

template <class V>
void Visit(V& v, CorrectionConfig& s) {
  v("kind", s.kind, "none, truncate, mask or geometric_reject.");
  v("level", s.level, "token or sequence.");
  v("cap", s.cap, "Upper bound C of truncate.");
  v("low", s.low, "Lower bound of mask and geometric_reject.");
  v("high", s.high, "Upper bound of mask and geometric_reject.");
  v("anchor", s.anchor, "Denominator of the ratio: recomputed or behaviour log-probabilities.");
}

template <class V>
void Visit(V& v, EntropyConfig& s) {
  v("kind", s.kind, "none, fixed or adaptive.");
  v("coefficient", s.coefficient, "Weight of the entropy bonus.");
  v("target", s.target, "Target entropy of adaptive, in nats.");
  v("step", s.step, "Change of the coefficient in one step of adaptive.");
  v("min", s.min, "Smallest coefficient of adaptive.");
  v("max", s.max, "Largest coefficient of adaptive.");
}

template <class V>
void Visit(V& v, AuxiliaryConfig& s) {
  v("positive_nll", s.positive_nll, "Weight of the likelihood term on right answers.");
  v("value_coefficient", s.value_coefficient, "Weight of the value loss.");
  v("value_clip", s.value_clip, "Clip distance of the value loss; null: off.");
}

template <class V>
void Visit(V& v, ConventionsConfig& s) {
  v("singleton_group", s.singleton_group, "A group of one: zero advantage, or its raw reward.");
  v("log_ratio_clamp", s.log_ratio_clamp, "Clamp of log-ratios; null: off.");
  v("k3_clamp", s.k3_clamp, "Clamp of k3; null: off.");
  v("empty_sequences", s.empty_sequences,
    "Fully masked sequences: skip or count in sequence means.");
  v("cispo_bound", s.cispo_bound, "relative: [1−low, 1+high]; absolute: at most high.");
  v("batch_std_over", s.batch_std_over, "sequences or tokens.");
  v("constant_per", s.constant_per,
    "token_sum_const divides by constant (batch), or by constant times the "
    "number of sequences (sequence).");
  v("recentre", s.recentre, "Subtract the mean again before a batch-wide scale.");
  v("denominator_epsilon", s.denominator_epsilon, "Added to averages' denominators.");
}

template <class V>
void Visit(V& v, FilterConfig& s) {
  v("zero_variance", s.zero_variance, "Groups of equal rewards: drop or keep.");
  v("on", s.on, "Zero variance of the reward or of the accuracy.");
  v("truncated", s.truncated,
    "Completions cut at max_new_tokens: keep, mask_after, mask_before or drop.");
  v("accept_low", s.accept_low,
    "Groups with a smaller share of right answers are dropped; null: off.");
  v("accept_high", s.accept_high,
    "Groups with a larger share of right answers are dropped; null: off.");
  v("gibberish_token_min", s.gibberish_token_min,
    "Gibberish is a sample that holds a rare token (this id or above) which was also unlikely; "
    "null: off.");
  v("gibberish_logprob", s.gibberish_logprob,
    "Unlikely: a log-probability below this; -13.76 is a uniform draw from 128,256 tokens, less "
    "2.");
  v("gibberish", s.gibberish,
    "Gibberish is dropped, or masked: in its group's statistics, with advantage 0.");
  v("repetition_window", s.repetition_window,
    "Repetition is so many tokens in a row above repetition_probability; 0: off.");
  v("repetition_probability", s.repetition_probability, "See repetition_window.");
  v("repetition", s.repetition, "Repetition is dropped, or masked as gibberish is.");
  v("segment_max_age_versions", s.segment_max_age_versions,
    "Tokens sampled so many versions before the newest one are not learnt from: like those of an "
    "environment they count in no loss, length or denominator. More are older; null: off.");
}

template <class V>
void Visit(V& v, AlgorithmConfig& s) {
  v("advantage", s.advantage, "");
  v("objective", s.objective, "");
  v("aggregation", s.aggregation, "");
  v("kl", s.kl, "");
  v("correction", s.correction, "");
  v("entropy", s.entropy, "");
  v("auxiliary", s.auxiliary, "");
  v("conventions", s.conventions, "");
  v("filter", s.filter, "");
}

template <class V>
void Visit(V& v, TrainerSection& s) {
  v("bind", s.bind, "gRPC address; port 0 picks a free one.");
  v("groups_per_step", s.groups_per_step, "Groups in one optimiser step.");
  v("max_staleness_versions", s.max_staleness_versions,
    "Largest distance between the version that sampled a token and the one trained.");
  v("learning_rate", s.learning_rate, "Peak learning rate.");
  v("warmup_steps", s.warmup_steps, "Linear warm-up.");
  v("schedule", s.schedule, "constant, or linear to 0 at run.max_steps.");
  v("weight_decay", s.weight_decay, "AdamW weight decay.");
  v("adam_beta1", s.adam_beta1, "AdamW β₁.");
  v("adam_beta2", s.adam_beta2, "AdamW β₂.");
  v("adam_epsilon", s.adam_epsilon, "AdamW ε.");
  v("max_grad_norm", s.max_grad_norm, "Gradient norm bound.");
  v("threads", s.threads, "Microbatches computed side by side.");
  v("microbatch_tokens", s.microbatch_tokens, "Packed tokens of one forward pass.");
  v("updates_per_step", s.updates_per_step,
    "Optimiser updates from one step's groups, each from a minibatch of whole groups; fewer where "
    "there are fewer groups.");
  v("optimiser_reset_interval_steps", s.optimiser_reset_interval_steps,
    "AdamW's moments start again from zero after so many steps; 0: never.");
  v("max_nonfinite_steps", s.max_nonfinite_steps,
    "Consecutive skipped steps before the run stops.");
  v("checkpoint_interval_steps", s.checkpoint_interval_steps, "Steps between checkpoints.");
  v("checkpoint_keep_last", s.checkpoint_keep_last, "Checkpoints kept.");
  v("eval_interval_steps", s.eval_interval_steps,
    "Steps between held-out evaluations; 0: first and last only.");
  v("publish_interval_steps", s.publish_interval_steps,
    "Steps between weight versions sent to generators.");
  v("dtype", s.dtype,
    "Of the policy's forward and backward passes: float32, or bfloat16 with float32 master weights, "
    "which needs a processor with such arithmetic.");
  v("share_prompts", s.share_prompts,
    "What a group's samples begin with alike, its prompt, is computed once in a microbatch; losses "
    "and gradients stay the same. Models whose positions are scaled `dynamic`ally do without.");
  v("activation_checkpointing", s.activation_checkpointing,
    "Each layer keeps its input alone for the backward pass and is computed again then: less memory "
    "for about a third more time.");
  v("ranks", s.ranks,
    "Processes that take every step together, each with `threads` and a share of the batch by "
    "tokens.");
  v("rank_launch", s.rank_launch,
    "local: the trainer starts ranks 1, 2, … on its host; external: somebody starts "
    "`tramontane-trainer rank` elsewhere.");
  v("rank_transport", s.rank_transport,
    "How ranks share gradients: shared_memory, tcp, or auto: shared memory where the trainer starts "
    "them, else TCP.");
  v("rank_bind", s.rank_bind, "host:port where rank 0 awaits the others; port 0 picks a free one.");
  v("rank_join_timeout_s", s.rank_join_timeout_s, "All ranks must have joined within this time.");
  v("rank_timeout_s", s.rank_timeout_s,
    "A rank that is silent within a step for so long ends it; the run goes on from its checkpoint.");
  v("zero", s.zero,
    "ZeRO: what each rank keeps its share of alone. 0: nothing; 1: AdamW's moments; 2: gradients, "
    "too.");
  v("mtp_weight", s.mtp_weight,
    "Weight of the multi-token-prediction head's likelihood of the trained tokens, in SFT and RL; "
    "the policy itself does not learn from it. Refused for models without the head.");
  v("router_replay", s.router_replay,
    "Policies with experts: each token goes through those that it went through when it was "
    "generated, so that both sides score it alike; refused for models without experts.");
  v("starvation", s.starvation,
    "When filters drop group after group: short (train on what there is, with its own "
    "denominators), wait, or pause until `tramontane unpause`.");
  v("starvation_steps", s.starvation_steps,
    "Batches' worth of groups dropped since the last step that count as starvation.");
  v("tokens_per_step", s.tokens_per_step,
    "A step is taken as soon as its groups hold so many sampled tokens, groups_per_step at the most "
    "(CWM's batches by token count); 0: by groups alone.");
  v("logprob_gap_alarm", s.logprob_gap_alarm,
    "Warn in the log and count when generator and trainer disagree by more, in nats, on one token "
    "at one version.");
}

template <class V>
void Visit(V& v, LoraSection& s) {
  v("rank", s.rank,
    "Rank of low-rank adapters, which are trained in place of the weights; 0: none, all weights are.");
  v("alpha", s.alpha, "The adapters' product counts alpha / rank times.");
  v("target_modules", s.target_modules,
    "Which of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj have adapters.");
}

template <class V>
void Visit(V& v, CriticSection& s) {
  v("learning_rate", s.learning_rate,
    "Peak learning rate of the critic, which algorithm.advantage.baseline value needs.");
  v("warmup_steps", s.warmup_steps, "Linear warm-up of the critic.");
  v("steps_per_rollout", s.steps_per_rollout,
    "Critic updates from one step's samples, each on its share of them.");
  v("pretrain_steps", s.pretrain_steps,
    "First steps in which the policy is frozen and the critic alone learns, from returns; no group "
    "is dropped "
    "for its rewards.");
  v("weight_decay", s.weight_decay, "AdamW weight decay of the critic.");
  v("max_grad_norm", s.max_grad_norm, "Gradient norm bound of the critic.");
}

template <class V>
void Visit(V& v, GeneratorSection& s) {
  v("bind", s.bind, "gRPC address; port 0 picks a free one, which `count` above 1 needs.");
  v("count", s.count, "Local generator processes started by `tramontane run`.");
  v("threads", s.threads, "Compute threads of one engine.");
  v("max_running_sequences", s.max_running_sequences, "Sequences decoded in one step.");
  v("max_waiting_sequences", s.max_waiting_sequences, "Queue bound; beyond it RESOURCE_EXHAUSTED.");
  v("kv_block_tokens", s.kv_block_tokens, "Tokens in one KV cache block.");
  v("kv_blocks", s.kv_blocks, "Blocks in the KV cache.");
  v("prefill_chunk_tokens", s.prefill_chunk_tokens, "Most prompt tokens in one step.");
  v("prefix_cache", s.prefix_cache,
    "Full KV blocks stay, while there is room, for requests that begin with the same tokens under the same "
    "weights.");
  v("recompute_kv_on_swap", s.recompute_kv_on_swap,
    "After a weight swap running sequences compute their keys and values anew by the new weights, instead "
    "of going on with those that older versions left.");
  v("ngram_draft_tokens", s.ngram_draft_tokens,
    "Most tokens that a step guesses for a sequence, from where its last tokens stood before (n-gram "
    "speculation). Samples stay the same, token for token; texts that repeat themselves take fewer steps. "
    "0: off.");
  v("mtp_draft", s.mtp_draft,
    "Guess one token a step by the model's multi-token-prediction head, where there is no other "
    "guess. Samples stay the same, token for token. Refused for models without one.");
  v("claim_groups", s.claim_groups, "Groups claimed ahead of need.");
  v("lease_s", s.lease_s, "Lease on a claimed group, renewed while it is alive.");
  v("device", s.device, "cpu or cuda.");
  v("engine", s.engine,
    "fused (packed weights, CPU) or torch; models that fused does not know run on torch, with a "
    "line in "
    "the log.");
  v("weights_dtype", s.weights_dtype,
    "float32, or what the fused engine rounds layer matrices to: bfloat16, int8 (scaled by "
    "output). Faster "
    "where memory bandwidth binds; samples then differ from the trainer's policy.");
  v("value_model", s.value_model,
    "Folder of a critic (`checkpoints/step_N/critic` of a run whose advantages come from values), "
    "the scorer `value` of searches in serving. It is loaded beside the model, in float32. Empty: "
    "none.");
  v("max_running_searches", s.max_running_searches,
    "Searches of serving that run side by side; each has a thread, which waits nearly all of the "
    "time.");
  v("max_waiting_searches", s.max_waiting_searches,
    "Searches that wait for one of these to end; beyond it RESOURCE_EXHAUSTED (429).");
  v("max_sessions", s.max_sessions,
    "Conversations that are remembered between two turns; beyond it RESOURCE_EXHAUSTED (429). "
    "0: none.");
  v("session_idle_timeout_s", s.session_idle_timeout_s,
    "A conversation without a turn for so long is forgotten.");
  v("http_port", s.http_port,
    "Port of the OpenAI-compatible HTTP endpoint, on the host of `bind`; the i-th generator "
    "listens on "
    "port + i. 0: no endpoint.");
  v("http_max_connections", s.http_max_connections, "Open HTTP connections; beyond it 503.");
  v("http_max_body_mib", s.http_max_body_mib, "Largest HTTP request body; beyond it 413.");
  v("http_timeout_s", s.http_timeout_s,
    "Deadline of an HTTP request, and the longest that its timeout_s may ask for.");
  v("http_idle_timeout_s", s.http_idle_timeout_s,
    "An HTTP client that neither sends nor reads for so long is dropped, and its samples with it.");
  v("vllm_metric_aliases", s.vllm_metric_aliases,
    "The endpoint's /metrics repeats the main series under vLLM's names.");
}

template <class V>
void Visit(V& v, VerifierSection& s) {
  v("builtin", s.builtin, "Built-in grader served by a local process.");
  v("address", s.address, "host:port of a running verifier service.");
  v("command", s.command, "Command that starts a verifier service; {port} is filled in.");
  v("use", s.use, "NAME or NAME@VERSION of a verifier in the registry (`tramontane verifiers`).");
  v("version", s.version, "The service must have this version; empty: any.");
  v("digest", s.digest, "The service must have this digest; empty: any.");
  v("shadow", s.shadow,
    "Another entry that scores the same samples; its scores are compared and never used.");
  v("shadow_fraction", s.shadow_fraction, "Share of the groups that the shadow is shown.");
  v("canary_fraction", s.canary_fraction,
    "Share of the groups that the shadow scores in place of this one.");
  v("params", s.params, "Passed with every request, under the row's own params.");
  v("request_timeout_s", s.request_timeout_s, "Bound of one attempt.");
  v("max_attempts", s.max_attempts, "Attempts before an infrastructure failure is final.");
  v("timeout_reward", s.timeout_reward,
    "Reward of a completion whose execution ran out of time; null: it has none, and its group is dropped.");
}

template <class V>
void Visit(V& v, RewardSection& s) {
  v("format", s.format, "Reward for passing the format gate.");
  v("correct", s.correct, "Reward for a right answer.");
  v("language", s.language, "Reward for prompt, thoughts and answer in one language.");
  v("length_penalty", s.length_penalty, "Largest soft penalty for overlong completions.");
  v("length_max_tokens", s.length_max_tokens, "l_max of the length penalty.");
  v("length_cache_tokens", s.length_cache_tokens, "l_cache of the length penalty.");
  v("think_open", s.think_open, "Opening tag of the thoughts.");
  v("think_close", s.think_close, "Closing tag of the thoughts.");
  v("require_think", s.require_think, "The format gate demands exactly one pair of think tags.");
  v("require_boxed", s.require_boxed,
    "The format gate demands a \\boxed{} after the thoughts, of graders whose answers stand in "
    "one.");
  v("gate", s.gate, "A completion that fails the format gate scores 0, whatever its terms say.");
  v("language_model", s.language_model,
    "fastText language model (lid.176.bin); empty: languages are told apart by their script.");
  v("terms", s.terms,
    "Terms of the reward in place of the numbers above: name → {weight, scope, …} "
    "(docs/graders.md).");
}

template <class V>
void Visit(V& v, SandboxSection& s) {
  v("address", s.address,
    "host:port of a tramontane-sandbox service; empty: jails of the verifier itself.");
  v("programs", s.programs, "Programs run at once.");
  v("namespaces", s.namespaces, "auto (where the kernel allows), require or off.");
  v("runtime_class", s.runtime_class,
    "Sandboxed container runtime around the process, such as gvisor or kata; empty: none.");
  v("required_tier", s.required_tier, "A or B; below it no program is run.");
  v("required_layers", s.required_layers,
    "Layers without which no program is run; docs/sandbox.md names them.");
  v("python", s.python, "Python interpreter; empty: no Python programs.");
  v("cxx", s.cxx, "GNU C++ compiler; empty: no C++ programs.");
  v("readonly_paths", s.readonly_paths, "All that programs see of the file system.");
  v("max_time_limit_s", s.max_time_limit_s, "Most processor time a row may ask for, for one test.");
  v("max_memory_mib", s.max_memory_mib, "Most memory a row may ask for.");
  v("max_output_kib", s.max_output_kib, "Most output a row may ask for.");
}

template <class V>
void Visit(V& v, RedisSection& s) {
  v("url", s.url, "redis://host:port/db or unix:///path; empty: a private server.");
  v("appendfsync", s.appendfsync, "always, everysec or no (private server).");
  v("command_timeout_s", s.command_timeout_s, "Bound of one Redis command.");
}

template <class V>
void Visit(V& v, WeightsSection& s) {
  v("transport", s.transport, "auto, shared_memory or tcp.");
  v("prepare_timeout_s", s.prepare_timeout_s, "Bound of staging a version on one generator.");
  v("commit_timeout_s", s.commit_timeout_s, "Bound of swapping it in.");
  v("probe_tolerance", s.probe_tolerance,
    "Largest log-probability difference on the probe tokens, in nats.");
}

template <class V>
void Visit(V& v, BandSection& s) {
  v("low", s.low, "Smallest value that is in order; null: none.");
  v("high", s.high, "Largest value that is in order; null: none.");
  v("patience_steps", s.patience_steps, "Steps in a row outside the band before anything happens.");
  v("action", s.action,
    "warn: a line in the log and an event; dump: also the step's groups under dumps/; pause: also no "
    "further step until `tramontane unpause`.");
}

template <class V>
void Visit(V& v, MetricsSection& s) {
  v("bind", s.bind, "Address of each process's /metrics; empty: off.");
}

template <class V>
void Visit(V& v, ScheduleSection& s) {
  v("steps", s.steps, "Optimiser steps, ascending, from 1.");
  v("values", s.values, "The field's value from each of those steps on.");
  v("interpolate", s.interpolate, "hold, or linear between two steps.");
}

template <class V>
void Visit(V& v, RunConfig& s) {
  v("preset", s.preset,
    "Published recipe to start from (see `tramontane presets`); this file overrides it.");
  v("run", s.run, "");
  v("model", s.model, "");
  v("data", s.data, "");
  v("prompts", s.prompts, "");
  v("rollout", s.rollout, "");
  v("sft", s.sft, "");
  v("distill", s.distill, "");
  v("dpo", s.dpo, "");
  v("reject", s.reject, "");
  v("merge", s.merge, "");
  v("stages", s.stages, "");
  v("algorithm", s.algorithm, "");
  v("trainer", s.trainer, "");
  v("lora", s.lora, "");
  v("critic", s.critic, "");
  v("generator", s.generator, "");
  v("verifiers", s.verifiers, "");
  v("reward", s.reward, "");
  v("sandbox", s.sandbox, "");
  v("redis", s.redis, "");
  v("weights", s.weights, "");
  v("metrics", s.metrics, "");
  v("bands", s.bands, "");
  v("schedules", s.schedules, "");
}

}  // namespace tramontane
