// The typed experiment configuration. One YAML file plus `a.b=c` overrides become one RunConfig,
// which every process receives as const sub-structs. Nothing writes to it afterwards: derived
// numbers are results, not configuration.
//
// Each struct lists its fields once, in Visit(): parsing, unknown-key errors, the resolved JSON
// and docs/configuration.md all come from that list. Names carry units.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

struct RunSection {
  std::string name;                 // empty: made from dataset, model and a short id
  std::string kind = "rl";          // common/kind_rules.h
  std::string output_dir = "runs";  // the run directory is <output_dir>/<name>
  uint64_t seed = 0;
  int64_t max_steps = 100;
  // Exit rules besides max_steps; 0: off.
  double stop_reward = 0;  // the mean sampled reward over the last so many steps reaches it
  int32_t stop_reward_window_steps = 10;
  double stop_seconds = 0;             // wall time in the RL stage
  double stop_accuracy = 0;            // a held-out accuracy reaches it
  int32_t stop_stale_evaluations = 0;  // so many in a row did not beat the best before them
  // Where the run stands in its chain (common/stages.h); filled in by `tramontane run`.
  std::string stage;
  int32_t stage_number = 0, stage_count = 0;
};

struct ModelSection {
  std::string path;                  // Hugging Face folder to start from; or empty with `init`
  std::map<std::string, Json> init;  // config.json fields of a randomly initialised model
  std::string init_tokenizer;        // folder with tokenizer.json (and chat template) for `init`
};

struct DataSection {
  std::string train;                 // JSONL file
  std::string eval;                  // JSONL file; empty: no held-out evaluation
  std::string shape = "auto";        // auto | tramontane | verl | trl | openrlhf | verifiers
  std::string verifier = "math";     // used by rows that name none
  bool apply_chat_template = false;  // rows with messages always use the template
  bool shuffle = true;
};

// Which rows of data.train prompts are drawn from; trainer/ledger/prompt_source.h. A row's domain
// is params.<domain_key>, or else its verifier; its label is params.<label_key>.
struct PromptSection {
  std::string order = "pass";  // pass | priority | gaussian
  std::string domain_key = "domain", label_key = "difficulty";
  std::map<std::string, Json> domain_weights;   // empty: a domain counts by its rows
  std::optional<double> label_low, label_high;  // rows with a label outside wait
  std::optional<double> pass_low, pass_high;    // rows with a pass rate outside are set aside
  double outside_probability = 0;               // … and drawn with this chance
  int32_t pass_min_samples = 8;                 // before a row's pass rate counts
  int32_t pass_memory_samples = 0;              // older samples fade; 0: none do
  double target_pass_rate = 0.5, target_deviation = 0.15;  // of order gaussian
};

// A second layer: corrections of each answer, groups of their own (MGRPO).
struct CorrectionSection {
  int32_t samples = 0;               // of each answer; 0: no second layer
  std::vector<std::string> phrases;  // one of them stands between answer and correction
  std::string group_by = "answer";   // answer | prompt: what a correction is compared with
};

struct RolloutSection {
  int32_t samples_per_group = 8;
  int32_t max_new_tokens = 256;
  double temperature = 1.0;
  double top_p = 1.0;
  int32_t top_k = 0;
  double min_p = 0.0;
  double timeout_s = 0;  // wall clock of one sample; 0: none
  // A sample whose last so many tokens are one piece so many times over is ended; 0: none is.
  int32_t repetition_tokens = 0, repetition_times = 4;
  int32_t segment_tokens = 0;  // sampled in one go; then it queues behind what waits. 0: no bound
  CorrectionSection correction;
  std::vector<std::string> stop;
  Json thinking = Json::object();  // common/thinking.h; empty: no control
};

// Samples of a group, corrections included.
inline int32_t SamplesOf(const RolloutSection& rollout) {
  return rollout.samples_per_group * (1 + rollout.correction.samples);
}

struct SftSection {
  std::string data;  // JSONL rows {"prompt", "completion"}; empty: no SFT stage
  int64_t steps = 0;
  int32_t examples_per_step = 64;
  double learning_rate = 1e-3;
  int64_t warmup_steps = 50;
  double decay_fraction = 0.5;  // the rate falls linearly to 0 over this last share of the steps
  double max_grad_norm = 1.0;
  double weight_decay = 0.0;
  std::string eval_data;            // held-out JSONL rows of the same form; empty: none
  int64_t eval_interval_steps = 0;  // steps between held-out losses
  // Exit rules besides `steps`; 0: off.
  double stop_loss = 0;                // the held-out loss is at most this
  int32_t stop_stale_evaluations = 0;  // so many in a row were not below the least before them
};

// Besides `sft`, whose schedule and examples_per_step distill (logits), dpo and length_predictor
// share.
struct DistillSection {
  std::string mode = "logits";   // logits | on_policy
  std::string teacher;           // Hugging Face folder with the student's vocabulary
  std::string direction = "forward";  // of logits: forward KL(teacher ‖ student) | reverse
  int32_t top_k = 0;             // of logits, forward: of the teacher's distribution; 0: all of it
  double temperature = 1;        // of logits: both models' logits are divided by it
  double nll_weight = 0;         // of logits: weight of the rows' own tokens beside the KL
};
struct DpoSection {
  double beta = 0.1;
  double label_smoothing = 0;
  bool length_normalised = false;  // log-ratios are means over tokens rather than sums
};
struct RejectSection {
  std::string keep = "shortest_correct";  // trainer/selection.h
  int32_t max_per_prompt = 1;
  double length_ratio = 1.5;  // of keep pairs_short_long
  int32_t passes = 1;         // over data.train
  int64_t last_steps = 0;     // of an RL stage whose rollouts are selected from; 0: all
};
struct MergeSection {
  std::string method = "linear";     // linear | task_arithmetic | slerp
  std::vector<std::string> models;   // Hugging Face folders
  std::vector<double> weights;       // one a model; empty: equal
};

// One stage of a chain; common/stages.h.
struct StageSection {
  std::string name;
  std::string kind;
  std::string from;                 // empty: newest model; else "base", a stage, or a folder
  std::vector<std::string> data;    // files, or stages that give rows
  std::vector<std::string> models;  // folders, or stages that give models
  Json set = Json::object();
};

// The loss as a point in a space of knobs; docs/algorithm.md gives the terms their meaning,
// common/algorithm_rules.h the combinations that cannot work.
struct AdvantageConfig {
  std::string baseline = "group_mean";
  std::string scale = "minibatch_std";
  std::string sign = "both";
  double reward_weight = 1;
  double epsilon = 1e-6;
  int32_t ddof = 1;
  double gamma = 1, lambda_policy = 1, lambda_value = 1;
  std::optional<double> alpha;
};
struct ObjectiveConfig {
  std::string kind = "ppo_clip";
  std::string ratio = "token";
  double clip_low = 0.2, clip_high = 0.28;
  std::optional<double> dual_clip, ratio_cap, tau;
  std::string log_z = "mean";
};
struct AggregationConfig {
  std::string mode = "token_mean";
  std::string scope = "global";
  std::optional<double> constant;
};
struct KlConfig {
  std::string kind = "none";
  double coefficient = 0;
  std::string where = "loss";
  std::string reference = "initial";
  int64_t reset_interval_steps = 0;
};
struct CorrectionConfig {
  std::string kind = "none";
  std::string level = "token";
  std::optional<double> cap, low, high;
  std::string anchor = "behaviour";
};
struct EntropyConfig {
  std::string kind = "none";
  double coefficient = 0;
  std::optional<double> target, step, min, max;
};
struct AuxiliaryConfig {
  double positive_nll = 0, value_coefficient = 0;
  std::optional<double> value_clip;
};
struct ConventionsConfig {
  std::string singleton_group = "zero";
  std::optional<double> log_ratio_clamp, k3_clamp;
  std::string empty_sequences = "skip";
  std::string cispo_bound = "relative";
  std::string batch_std_over = "sequences";
  std::string constant_per = "batch";
  bool recentre = false;
  double denominator_epsilon = 0;
};
struct FilterConfig {
  std::string zero_variance = "drop";
  std::string on = "reward";
  std::string truncated = "keep";
  std::optional<double> accept_low, accept_high;
  std::optional<int64_t> gibberish_token_min;
  double gibberish_logprob = -13.76;
  std::string gibberish = "drop";
  int64_t repetition_window = 0;
  double repetition_probability = 0.99;
  std::string repetition = "drop";
  std::optional<int64_t> segment_max_age_versions;
};
struct AlgorithmConfig {
  AdvantageConfig advantage;
  ObjectiveConfig objective;
  AggregationConfig aggregation;
  KlConfig kl;
  CorrectionConfig correction;
  EntropyConfig entropy;
  AuxiliaryConfig auxiliary;
  ConventionsConfig conventions;
  FilterConfig filter;
};

struct TrainerSection {
  std::string bind = "127.0.0.1:0";  // gRPC address; port 0 picks a free one
  int32_t groups_per_step = 32;
  int32_t max_staleness_versions = 4;
  double learning_rate = 1e-4;
  int64_t warmup_steps = 0;
  std::string schedule = "constant";  // constant | linear (to 0 at run.max_steps)
  double weight_decay = 0.0;
  double adam_beta1 = 0.9, adam_beta2 = 0.95, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  int32_t threads = 1;               // microbatches computed side by side
  int32_t microbatch_tokens = 2048;  // packed tokens in one forward pass
  int32_t updates_per_step = 1;      // minibatches of a step's groups, one optimiser update each
  int64_t optimiser_reset_interval_steps = 0;  // 0: never
  int32_t max_nonfinite_steps = 3;             // consecutive skipped steps before the run stops
  int64_t checkpoint_interval_steps = 50;
  int32_t checkpoint_keep_last = 3;
  int64_t eval_interval_steps = 20;  // 0: only before the first and after the last step
  int32_t publish_interval_steps = 1;
  std::string dtype = "float32";  // of forward and backward passes: float32 | bfloat16
  bool activation_checkpointing = false;  // layers keep their inputs alone for the backward pass
  bool share_prompts = true;              // what a group's samples begin with is computed once
  // Processes that take every step together; trainer/ranks.
  int32_t ranks = 1;
  std::string rank_launch = "local";    // local: the trainer starts them | external
  std::string rank_transport = "auto";  // auto | shared_memory | tcp
  std::string rank_bind = "127.0.0.1:0";
  double rank_join_timeout_s = 60;
  double rank_timeout_s = 600;
  int32_t zero = 0;  // what ranks share of the optimiser: 0 nothing | 1 moments | 2 gradients too
  double mtp_weight = 0;            // of the multi-token-prediction head's loss
  bool router_replay = false;       // experts of each token as the generator chose them
  // When filters leave too little for a batch; trainer/loop/starvation.h.
  std::string starvation = "short";  // short | wait | pause
  int32_t starvation_steps = 4;      // batches' worth of dropped groups that count as starvation
  int64_t tokens_per_step = 0;       // > 0: fewer groups are enough when they have so many tokens
  double logprob_gap_alarm = 1e-3;  // warn when |generator − trainer| exceeds it at one version
};

// Low-rank adapters in place of all weights; trainer/learner/lora.h.
struct LoraSection {
  int32_t rank = 0;  // 0: all weights are trained
  double alpha = 16;
  std::vector<std::string> target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};
};

// The value model of algorithm.advantage.baseline value; trainer/learner/critic.h.
struct CriticSection {
  double learning_rate = 1e-4;
  int64_t warmup_steps = 0;
  int32_t steps_per_rollout = 1;  // updates from one step's samples, each on its share of them
  int64_t pretrain_steps = 0;     // first steps in which the critic alone learns
  double weight_decay = 0.0;
  double max_grad_norm = 1.0;
};

struct GeneratorSection {
  std::string bind = "127.0.0.1:0";
  int32_t count = 1;  // local processes started by `tramontane run`
  int32_t threads = 1;
  int32_t max_running_sequences = 128;
  int32_t max_waiting_sequences = 1024;  // beyond it: RESOURCE_EXHAUSTED
  int32_t kv_block_tokens = 16;
  int32_t kv_blocks = 4096;
  int32_t prefill_chunk_tokens = 512;  // prompt tokens in one step, over all sequences
  bool prefix_cache = true;            // blocks of finished sequences serve those that begin alike
  bool recompute_kv_on_swap = false;   // running sequences compute all their keys by new weights
  bool mtp_draft = false;              // one token guessed by the model's own head
  int32_t ngram_draft_tokens = 0;      // guessed ahead in one step of a sequence; 0: off
  int32_t claim_groups = 4;            // groups claimed from the queue ahead of need
  double lease_s = 60;                 // renewed while the group is alive
  std::string device = "cpu";          // cpu | cuda
  std::string engine = "fused";        // fused | torch
  std::string weights_dtype = "float32";  // float32 | bfloat16 | int8
  std::string value_model;                // a critic's folder: the scorer `value` of searches
  // Searches and sessions of serving.
  int32_t max_running_searches = 8;    // threads
  int32_t max_waiting_searches = 256;  // beyond it: RESOURCE_EXHAUSTED
  int32_t max_sessions = 256;          // open ones; beyond it: RESOURCE_EXHAUSTED
  double session_idle_timeout_s = 600;
  // The OpenAI-compatible endpoint; services/generator/http.
  int32_t http_port = 0;               // 0: none; the i-th generator of a host listens on port + i
  int32_t http_max_connections = 256;  // beyond it: 503
  int32_t http_max_body_mib = 8;       // beyond it: 413
  double http_timeout_s = 600;         // for a request; the longest that one may ask for
  double http_idle_timeout_s = 30;  // a client that neither sends nor reads for so long is dropped
  bool vllm_metric_aliases = false;
};

struct VerifierSection {
  std::string builtin;               // math | exact | … : served by a local process
  std::string address;               // host:port of a running service
  std::vector<std::string> command;  // started by `tramontane run`; {port} is filled in
  std::string use;                   // NAME or NAME@VERSION of the registry
  std::string version, digest;       // the service must be this one; empty: any
  std::string shadow;                // key of another entry that is compared with this one
  double shadow_fraction = 1.0;      // of the groups
  double canary_fraction = 0;        // of the groups: scored by the shadow in place of this one
  Json params = Json::object();
  double request_timeout_s = 30;
  int32_t max_attempts = 3;
  std::optional<double> timeout_reward;  // of a completion whose execution ran out of time
};

// Key of the entry that a row names: a key; or KEY@VERSION, the entry KEY or its shadow, whichever
// is pinned to that version. NotFound says what there is.
absl::StatusOr<std::string> FindVerifier(const std::map<std::string, VerifierSection>& verifiers,
                                         const std::string& named);

// Magistral's reward table (arXiv 2506.10910 §2.2), with every number a knob.
struct RewardSection {
  double format = 0.1;  // after the format gate
  double correct = 0.9;
  double language = 0.0;        // consistency bonus; 0.1 in the paper
  double length_penalty = 0.0;  // 0.1 in the paper; needs length_max and length_cache
  int32_t length_max_tokens = 0;
  int32_t length_cache_tokens = 0;
  std::string think_open = "<think>", think_close = "</think>";
  bool require_think = true;
  bool require_boxed = true;   // of graders whose answers stand in a \boxed{}
  bool gate = true;            // a completion that breaks the format scores 0, whatever else
  std::string language_model;  // fastText model (lid.176); empty: languages are told by script
  // Other terms than Magistral's, with their weights (docs/graders.md); empty: the numbers above.
  std::map<std::string, Json> terms;
};

// Where programs of the `code` verifier run; docs/sandbox.md.
struct SandboxSection {
  std::string address;   // host:port of a tramontane-sandbox; empty: jails of the verifier
  int32_t programs = 2;  // run at once
  std::string namespaces = "auto";  // auto | require | off
  std::string runtime_class;        // of the container around, e.g. gvisor; tier A
  std::string required_tier = "B";
  std::vector<std::string> required_layers;
  std::string python = "/usr/bin/python3";  // empty: no Python
  std::string cxx = "/usr/bin/g++";         // empty: no C++
  std::vector<std::string> readonly_paths = {"/usr", "/lib", "/lib64"};
  double max_time_limit_s = 30;  // most that a row may ask for
  int32_t max_memory_mib = 2048;
  int32_t max_output_kib = 16384;
};

struct RedisSection {
  std::string url;  // redis://host:port/db or unix:///path; empty: a private server
  std::string appendfsync = "always";
  double command_timeout_s = 5;
};

struct WeightsSection {
  std::string transport = "auto";  // auto | shared_memory | tcp
  double prepare_timeout_s = 60;
  double commit_timeout_s = 10;
  double probe_tolerance = 1e-3;  // largest |log-probability| difference on the probe tokens
};

// A number that changes with the step: values[i] from step steps[i] on, the field's own value
// before steps[0]; `linear` interpolates between two points. Steps count from 1.
struct ScheduleSection {
  std::vector<int64_t> steps;
  std::vector<double> values;
  std::string interpolate = "hold";
};

// Where a number of a step's line should stay; trainer/loop/bands.h.
struct BandSection {
  std::optional<double> low, high;
  int32_t patience_steps = 1;    // steps in a row outside it
  std::string action = "pause";  // warn | dump | pause
};

struct MetricsSection {
  std::string bind = "127.0.0.1:0";  // /metrics of each process; "" switches it off
};

struct RunConfig {
  std::string preset;  // name of the recipe that was the base; common/presets.h
  RunSection run;
  ModelSection model;
  DataSection data;
  PromptSection prompts;
  RolloutSection rollout;
  SftSection sft;
  DistillSection distill;
  DpoSection dpo;
  RejectSection reject;
  MergeSection merge;
  std::vector<StageSection> stages;  // empty: the run is one stage of run.kind
  AlgorithmConfig algorithm;
  TrainerSection trainer;
  LoraSection lora;
  CriticSection critic;
  GeneratorSection generator;
  std::map<std::string, VerifierSection> verifiers;  // empty: {math: {builtin: math}}
  RewardSection reward;
  SandboxSection sandbox;
  RedisSection redis;
  WeightsSection weights;
  MetricsSection metrics;
  std::map<std::string, BandSection> bands;          // by the number's name
  std::map<std::string, ScheduleSection> schedules;  // by the field's path
};

// Reads YAML text, applies `a.b=c` overrides (values are YAML), lays both over the preset they
// name, then Validate()s: default < preset < file < override. Errors are InvalidArgument and name
// the field, with the nearest known key for a typo.
absl::StatusOr<RunConfig> ParseConfig(const std::string& yaml_text, const std::string& source_name,
                                      const std::vector<std::string>& overrides);
absl::StatusOr<RunConfig> LoadConfig(const std::string& path,
                                     const std::vector<std::string>& overrides);

// The `algorithm` block alone, from JSON (`tramontane loss`).
absl::StatusOr<AlgorithmConfig> AlgorithmFromJson(const Json& json);

// The `generator` block alone, for a generator without a run: settings generator.NAME=VALUE over
// `base`. Validated; InvalidArgument as ParseConfig has it.
absl::StatusOr<GeneratorSection> ParseGenerator(const std::vector<std::string>& settings,
                                                GeneratorSection base);

// Of a validated configuration.
std::optional<ThinkingParams> ThinkingOf(const RolloutSection& rollout);

// Ranges, enumerations and combinations that cannot work.
absl::Status Validate(const RunConfig& config);
// Its parts for a block alone.
absl::Status ValidateAlgorithm(const AlgorithmConfig& algorithm);
absl::Status ValidateGenerator(const GeneratorSection& generator);

// The configuration as it is in optimiser step `step`: scheduled fields have that step's values.
// `config` must be valid.
RunConfig ConfigAtStep(const RunConfig& config, int64_t step);
// What scheduled parts of the reward are worth to a group issued for step `step`, by term, or by
// field of `reward` where it has no terms. Parts without a schedule, or before its first step, have
// none: they are worth what the verifier is configured to.
std::map<std::string, double> RewardWeightsAtStep(const RunConfig& config, int64_t step);
// algorithm.filter as it judges a group issued for step `step`: a function of the group's task
// alone, so that a replayed batch has the samples that were trained on. While the critic is
// pre-trained no group is dropped for its rewards: their mean is what the critic shall learn. Where
// samples are selected, a group of equal rewards is as good as any.
FilterConfig FilterAtStep(const RunConfig& config, int64_t step);
// Each schedule's field, shape, and the whole configuration at each of its points.
absl::Status ValidateSchedules(const RunConfig& config);

Json ToJson(const RunConfig& config);  // every field, defaults included
absl::StatusOr<RunConfig> ConfigFromJson(const Json& json);

// Numbers that follow from a configuration, for --dry-run and the log.
Json DerivedNumbers(const RunConfig& config);

// docs/configuration.md, generated from the same field lists.
std::string ConfigReferenceMarkdown();

}  // namespace tramontane
