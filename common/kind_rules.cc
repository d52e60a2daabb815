#include "common/kind_rules.h"

#include <algorithm>
#include <iterator>

#include "common/config_rules.h"
#include "common/status.h"

namespace tramontane {
namespace {

using C = RunConfig;

struct KindRule {
  const char *name, *field, *why;
  bool (*holds)(const C&);
};

bool OneOf(const std::string& value, std::initializer_list<const char*> allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

bool IsOnPolicy(const C& c) { return c.run.kind == "distill" && c.distill.mode == "on_policy"; }
bool Samples(const C& c) { return !RunsAlone(c); }
bool IsGuided(const C& c) {
  const auto found = c.rollout.thinking.find("guidance");
  return found != c.rollout.thinking.end() && found->is_boolean() && found->get<bool>();
}
bool PredictsLength(const C& c) { return c.run.kind == "length_predictor"; }

constexpr const char* kKinds[] = {"rl",  "sft",   "reject_sample",   "distill",
                                  "dpo", "merge", "length_predictor"};

const KindRule kKindRules[] = {
    {"distill_mode_is_known", "distill.mode", "is not one of logits, on_policy",
     [](const C& c) { return OneOf(c.distill.mode, {"logits", "on_policy"}); }},
    {"rl_has_prompts", "data.train", "is needed for the RL stage (run.max_steps > 0)",
     [](const C& c) {
       return !Samples(c) || !c.data.train.empty() || c.run.max_steps == 0 || !c.stages.empty();
     }},
    {"supervised_kinds_have_rows", "sft.data",
     "sft, distill (logits), dpo and length_predictor need sft.data and sft.steps",
     [](const C& c) {
       return !IsSupervised(c) || !c.stages.empty() || (!c.sft.data.empty() && c.sft.steps > 0);
     }},
    // --- distill
    {"distill_has_a_teacher", "distill.teacher", "is needed by run.kind distill",
     [](const C& c) { return c.run.kind != "distill" || !c.distill.teacher.empty(); }},
    {"teacher_is_of_distill", "algorithm.kl.reference",
     "teacher is for run.kind distill with distill.mode on_policy",
     [](const C& c) {
       return c.algorithm.kl.reference != "teacher" || IsOnPolicy(c) || !c.stages.empty();
     }},
    {"on_policy_compares_with_the_teacher", "algorithm.kl.reference",
     "distill.mode on_policy needs reference teacher, a kl.kind and a kl.coefficient (preset opd)",
     [](const C& c) {
       return !IsOnPolicy(c) || (c.algorithm.kl.reference == "teacher" &&
                                 c.algorithm.kl.kind != "none" && c.algorithm.kl.coefficient > 0);
     }},
    {"distill_direction_is_known", "distill.direction", "is not one of forward, reverse",
     [](const C& c) { return OneOf(c.distill.direction, {"forward", "reverse"}); }},
    {"distill_top_k_is_forward", "distill.top_k",
     "must be at least 0, and 0 with direction reverse: what the teacher cannot say would be "
     "infinitely far",
     [](const C& c) {
       return c.distill.top_k == 0 || (c.distill.top_k > 0 && c.distill.direction == "forward");
     }},
    {"distill_temperature_is_positive", "distill.temperature", "must be above 0",
     [](const C& c) { return c.distill.temperature > 0; }},
    {"own_tokens_are_learnt_at_temperature_one", "distill.nll_weight",
     "must not be negative, and needs distill.temperature 1",
     [](const C& c) {
       return c.distill.nll_weight == 0 ||
              (c.distill.nll_weight > 0 && c.distill.temperature == 1);
     }},
    // --- dpo
    {"dpo_beta_is_positive", "dpo.beta", "must be above 0", [](const C& c) { return c.dpo.beta > 0; }},
    {"dpo_label_smoothing_is_below_half", "dpo.label_smoothing",
     "must be from 0 to below 0.5: at one half nothing is preferred",
     [](const C& c) { return c.dpo.label_smoothing >= 0 && c.dpo.label_smoothing < 0.5; }},
    // --- reject_sample
    {"selection_is_known", "reject.keep",
     "is not one of first_correct, shortest_correct, all_correct, best, pairs_best_worst, "
     "pairs_short_long",
     [](const C& c) {
       return OneOf(c.reject.keep, {"first_correct", "shortest_correct", "all_correct", "best",
                                    "pairs_best_worst", "pairs_short_long"});
     }},
    {"pairs_need_two_samples", "rollout.samples_per_group", "must be at least 2 to make pairs",
     [](const C& c) {
       return c.run.kind != "reject_sample" || !KeepsPairs(c.reject) || c.rollout.samples_per_group > 1;
     }},
    {"selection_keeps_something", "reject.max_per_prompt", "must be at least 1",
     [](const C& c) { return c.reject.max_per_prompt >= 1; }},
    {"selection_makes_a_pass", "reject.passes", "must be at least 1",
     [](const C& c) { return c.reject.passes >= 1; }},
    {"selection_has_steps", "reject.last_steps", "must not be negative",
     [](const C& c) { return c.reject.last_steps >= 0; }},
    {"longer_is_longer", "reject.length_ratio", "must be above 1",
     [](const C& c) { return c.reject.length_ratio > 1; }},
    {"selection_has_no_cold_start", "sft.data",
     "run.kind reject_sample and merge train nothing: put the sft before them in a stage of its own",
     [](const C& c) {
       return (c.run.kind != "reject_sample" && c.run.kind != "merge") || c.sft.data.empty();
     }},
    // --- length_predictor
    {"length_predictor_learns_in_one_process", "trainer.ranks",
     "must be 1 for run.kind length_predictor",
     [](const C& c) { return !PredictsLength(c) || c.trainer.ranks == 1; }},
    {"length_predictor_leaves_the_model_alone", "lora.rank",
     "must be 0 for run.kind length_predictor: nothing of the model is trained",
     [](const C& c) { return !PredictsLength(c) || c.lora.rank == 0; }},
    {"guided_tokens_are_not_trained_on", "rollout.thinking",
     "guidance draws from another distribution than the policy's: it is for serving, search and "
     "run.kind reject_sample",
     [](const C& c) {
       return !Samples(c) || c.run.kind == "reject_sample" || !c.stages.empty() || !IsGuided(c);
     }},
    // --- merge
    {"merge_method_is_known", "merge.method", "is not one of linear, task_arithmetic, slerp",
     [](const C& c) { return OneOf(c.merge.method, {"linear", "task_arithmetic", "slerp"}); }},
    {"merge_has_models", "merge.models",
     "needs at least two models (task_arithmetic one, slerp exactly two)",
     [](const C& c) {
       if (c.run.kind != "merge") return true;
       const size_t n = c.merge.models.size();
       if (c.merge.method == "slerp") return n == 2;
       return n >= (c.merge.method == "linear" ? 2u : 1u);
     }},
    {"merge_weighs_every_model", "merge.weights",
     "has not as many weights as there are models, or linear's sum is 0",
     [](const C& c) {
       if (c.run.kind != "merge" || c.merge.weights.empty()) return true;
       double sum = 0;
       for (double weight : c.merge.weights) sum += weight;
       return c.merge.weights.size() == c.merge.models.size() &&
              (c.merge.method != "linear" || sum != 0);
     }},
    // --- exits
    {"held_out_rows_have_an_interval", "sft.eval_interval_steps",
     "sft.eval_data and eval_interval_steps, at least 1, are set together",
     [](const C& c) {
       return c.sft.eval_interval_steps >= 0 &&
              c.sft.eval_data.empty() == (c.sft.eval_interval_steps == 0);
     }},
    {"sft_exits_have_held_out_rows", "sft.eval_data",
     "is needed by sft.stop_loss and sft.stop_stale_evaluations, which must not be negative",
     [](const C& c) {
       return c.sft.stop_loss >= 0 && c.sft.stop_stale_evaluations >= 0 &&
              ((c.sft.stop_loss == 0 && c.sft.stop_stale_evaluations == 0) ||
               !c.sft.eval_data.empty());
     }},
    {"stop_window_is_positive", "run.stop_reward_window_steps", "must be at least 1",
     [](const C& c) { return c.run.stop_reward_window_steps >= 1; }},
    {"stop_accuracy_is_a_share", "run.stop_accuracy", "must be from 0 to 1",
     [](const C& c) { return c.run.stop_accuracy >= 0 && c.run.stop_accuracy <= 1; }},
    {"stop_evaluations_are_counted", "run.stop_stale_evaluations", "must not be negative",
     [](const C& c) { return c.run.stop_stale_evaluations >= 0; }},
    {"held_out_exits_have_evaluations", "data.eval",
     "is needed, and trainer.eval_interval_steps above 0, by run.stop_accuracy and "
     "run.stop_stale_evaluations",
     [](const C& c) {
       const bool wanted = c.run.stop_accuracy > 0 || c.run.stop_stale_evaluations > 0;
       return !wanted || !Samples(c) || !c.stages.empty() ||
              (!c.data.eval.empty() && c.trainer.eval_interval_steps > 0);
     }},
};

}  // namespace

absl::Status CheckKind(const std::string& kind, const std::string& field) {
  std::string known;
  for (const char* one : kKinds) {
    if (kind == one) return absl::OkStatus();
    known += (known.empty() ? "" : ", ") + std::string(one);
  }
  return absl::InvalidArgumentError(field + ": '" + kind + "' is not one of " + known +
                                    " (rule kind_is_known)");
}

bool IsSupervised(const RunConfig& c) {
  return c.run.kind == "sft" || c.run.kind == "dpo" || c.run.kind == "length_predictor" ||
         (c.run.kind == "distill" && c.distill.mode == "logits");
}

absl::Status CheckKindRules(const RunConfig& config) {
  RETURN_IF_ERROR(CheckKind(config.run.kind, "run.kind"));
  return CheckRules(kKindRules, config);
}

}  // namespace tramontane
