#include "common/metric_names.h"

namespace tramontane {
namespace {

using enum MetricKind;

const std::vector<double> kSeconds = {.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120};
const std::vector<double> kVersions = {0, 1, 2, 3, 4, 6, 8, 12, 16, 32};
const std::vector<double> kTokens = {8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};

}  // namespace

const std::vector<MetricSpec>& AllMetrics() {
  static const std::vector<MetricSpec> metrics = {
      // --- generator
      {"tramontane_generator_tokens_total", kCounter, "Tokens, by kind (generated, prompt, injected by thinking control).", {}},
      {"tramontane_generator_thinking_ends_total", kCounter, "Samples under thinking control, by what ended the thinking (model, exhausted; open: nothing did).", {}},
      {"tramontane_generator_thinking_extensions_total", kCounter, "Ends of thinking that were taken back.", {}},
      {"tramontane_generator_engine_info", kGauge, "1, with the engine that runs the model (fused, torch) and its instruction set (v4 AVX-512, v3 AVX2, base) and the type of its weights as labels.", {}},
      {"tramontane_generator_running_sequences", kGauge, "Sequences in the decode batch.", {}},
      {"tramontane_generator_waiting_sequences", kGauge, "Sequences waiting for a place.", {}},
      {"tramontane_generator_kv_blocks", kGauge, "KV cache blocks, by state (used, total).", {}},
      {"tramontane_generator_preemptions_total", kCounter, "Sequences set back because KV blocks ran out.", {}},
      {"tramontane_generator_step_seconds", kHistogram, "Time of one engine step.", kSeconds},
      {"tramontane_generator_busy_seconds_total", kCounter, "Engine time spent in steps.", {}},
      {"tramontane_generator_wait_seconds_total", kCounter, "Engine time spent waiting, by reason.", {}},
      {"tramontane_generator_finished_total", kCounter, "Finished samples, by reason.", {}},
      {"tramontane_generator_weight_version", kGauge, "Weight version that samples now.", {}},
      {"tramontane_generator_swap_pause_seconds", kHistogram, "Pause of decoding for a weight swap.", kSeconds},
      {"tramontane_generator_weight_fetch_seconds", kHistogram, "Staging of a weight version, by phase (transfer, verify).", kSeconds},
      {"tramontane_generator_probe_gap", kGauge, "Largest probe log-probability difference at the last swap.", {}},
      {"tramontane_generator_groups_total", kCounter, "Groups by outcome (claimed, completed, released, failed, lost).", {}},
      // --- generator: HTTP endpoint
      {"tramontane_http_requests_total", kCounter, "HTTP requests answered, by route and status.", {}},
      {"tramontane_http_unanswered_total", kCounter, "Completion requests not answered whole, by reason (client_left, slow_reader, deadline, shutdown).", {}},
      {"tramontane_http_open_requests", kGauge, "Completion requests under way.", {}},
      {"tramontane_http_request_seconds", kHistogram, "Time from a completion request to its end.", kSeconds},
      {"tramontane_http_time_to_first_token_seconds", kHistogram, "Time from a completion request to a sample's first token.", kSeconds},
      {"tramontane_http_inter_token_seconds", kHistogram, "Time between two tokens of a sample.", kSeconds},
      // --- verifier
      {"tramontane_verifier_queue_seconds", kHistogram, "Wait before execution.", kSeconds},
      {"tramontane_verifier_exec_seconds", kHistogram, "Execution of one verification.", kSeconds},
      {"tramontane_verifier_results_total", kCounter, "Verdicts, by verifier and status.", {}},
      {"tramontane_verifier_retries_total", kCounter, "Attempts repeated after an infrastructure failure.", {}},
      {"tramontane_verifier_in_flight", kGauge, "Requests that a verifier process holds.", {}},
      {"tramontane_verifier_waiting", kGauge, "Requests that wait for a worker process of a Python verifier.", {}},
      {"tramontane_verifier_workers", kGauge, "Worker processes of a Python verifier.", {}},
      {"tramontane_verifier_worker_restarts_total", kCounter, "Worker processes replaced: killed, dead or worn.", {}},
      // --- sandbox
      {"tramontane_sandbox_runs_total", kCounter, "Programs run, by language and end.", {}},
      {"tramontane_sandbox_run_seconds", kHistogram, "Wall time of one program run, by language.", kSeconds},
      {"tramontane_sandbox_compile_seconds", kHistogram, "Wall time of compiling one program.", kSeconds},
      {"tramontane_sandbox_jail_restarts_total", kCounter, "Jails replaced because they failed.", {}},
      {"tramontane_sandbox_waiting", kGauge, "Runs that wait for a free jail.", {}},
      {"tramontane_sandbox_info", kGauge, "1, labelled with the sandbox's tier and layers.", {}},
      // --- verifier, as a generator sees it
      {"tramontane_verifier_client_round_trip_seconds", kHistogram, "Time from sending a request to its reply.", kSeconds},
      {"tramontane_verifier_client_verdicts_total", kCounter, "Verdicts received, by verifier and status.", {}},
      {"tramontane_verifier_client_in_flight", kGauge, "Requests sent and not yet answered.", {}},
      {"tramontane_verifier_client_away", kGauge, "1 while the verifier is away or not trusted.", {}},
      {"tramontane_verifier_client_outages_total", kCounter, "Times that the verifier went away.", {}},
      {"tramontane_verifier_client_dead_letters_total", kCounter, "Requests given up after their last attempt.", {}},
      {"tramontane_verifier_client_stray_replies_total", kCounter, "Replies to no open request: late, repeated or invented.", {}},
      {"tramontane_verifier_shadow_compared_total", kCounter, "Samples that a verifier and its shadow both judged, by outcome (same, differs, unscored).", {}},
      {"tramontane_verifier_client_digest_changes_total", kCounter, "Times that its code or configuration changed under a run.", {}},
      // --- trainer: learner
      {"tramontane_trainer_step", kGauge, "Optimiser steps done; equals the weight version.", {}},
      {"tramontane_trainer_step_seconds", kHistogram, "Time of one step, by phase.", kSeconds},
      {"tramontane_trainer_busy_seconds_total", kCounter, "Learner time spent in steps.", {}},
      {"tramontane_trainer_wait_seconds_total", kCounter, "Learner time spent waiting, by reason.", {}},
      {"tramontane_trainer_last_step_timestamp_seconds", kGauge, "Unix time of the last step.", {}},
      {"tramontane_trainer_loss", kGauge, "Loss of the last step.", {}},
      {"tramontane_trainer_grad_norm", kGauge, "Gradient norm before clipping.", {}},
      {"tramontane_trainer_learning_rate", kGauge, "Learning rate of the last step.", {}},
      {"tramontane_trainer_nonfinite_steps_total", kCounter, "Steps skipped for a non-finite loss or gradient.", {}},
      {"tramontane_trainer_tokens_total", kCounter, "Tokens trained on, by kind (response, packed).", {}},
      {"tramontane_trainer_sequences_total", kCounter, "Sequences trained on.", {}},
      {"tramontane_trainer_clip_ratio", kGauge, "Share of tokens clipped in the last step, by side (low, high).", {}},
      {"tramontane_trainer_importance_ratio", kGauge, "Importance ratio of the last step, by statistic (mean, max).", {}},
      {"tramontane_trainer_entropy", kGauge, "Sampled estimate of the policy entropy, in nats per token.", {}},
      {"tramontane_trainer_kl", kGauge, "KL of the policy from the reference policy as algorithm.kl estimates it, in nats per token.", {}},
      {"tramontane_trainer_entropy_coefficient", kGauge, "Weight of the entropy bonus in the last step.", {}},
      {"tramontane_trainer_reference_bytes", kGauge, "Memory of the reference model; 0 without one.", {}},
      {"tramontane_trainer_reference_version", kGauge, "Weight version that the reference model is a copy of.", {}},
      {"tramontane_trainer_logprob_gap", kGauge, "Generator and trainer log-probability of the same tokens at the same version, by statistic (mean, max: tokens of a step's batch; probe: the newest commit's probe tokens).", {}},
      // --- trainer: loop
      {"tramontane_sample_staleness_versions", kHistogram, "Trainer version minus the oldest token's version, by stage.", kVersions},
      {"tramontane_samples_dropped_total", kCounter, "Samples not trained on, by reason.", {}},
      {"tramontane_groups_total", kCounter, "Groups by event (issued, collected, trained, dropped).", {}},
      {"tramontane_group_outcomes_total", kCounter, "Groups by share of right answers (none, some, all).", {}},
      {"tramontane_reward_mean", kGauge, "Mean sampled reward of the last step's groups, as collected.", {}},
      {"tramontane_reward_component_mean", kGauge, "Mean of one reward component in the last step, by component.", {}},
      {"tramontane_eval_accuracy", kGauge, "Held-out greedy accuracy.", {}},
      {"tramontane_output_tokens", kHistogram, "Completion length, by set (collected, trained).", kTokens},
      {"tramontane_queue_groups", kGauge, "Groups in the queue, by state (waiting, leased, completed, dead).", {}},
      {"tramontane_queue_oldest_waiting_seconds", kGauge, "Age of the oldest unclaimed group.", {}},
      {"tramontane_queue_alarms_total", kCounter, "Queue invariants found broken, by kind.", {}},
      {"tramontane_redis_unavailable_seconds_total", kCounter, "Time during which Redis did not answer.", {}},
      {"tramontane_checkpoint_seconds", kHistogram, "Writing of a checkpoint.", kSeconds},
      {"tramontane_checkpoint_timestamp_seconds", kGauge, "Unix time of the newest durable checkpoint.", {}},
      {"tramontane_journal_append_seconds", kHistogram, "Durable append to the journal.", kSeconds},
      // --- weights
      {"tramontane_policy_publish_lag_versions", kGauge, "Trainer version minus the version a generator serves, largest over generators.", {}},
      {"tramontane_weight_publish_seconds", kHistogram, "Publishing a version to one generator, by phase (prepare, commit).", kSeconds},
      {"tramontane_weight_publish_failures_total", kCounter, "Failed publications, by phase.", {}},
      {"tramontane_weight_bytes_total", kCounter, "Weight bytes handed to generators.", {}},
      {"tramontane_generators_announced", kGauge, "Generators the trainer knows to be alive.", {}},
  };
  return metrics;
}

}  // namespace tramontane
