"""Writes peer_golden.json: advantages, losses and gradients computed by the peers' own code.

    python make_peer_golden.py SITE     # SITE: a folder that holds the unpacked verl 0.9.1 wheel

Needs torch, numpy and trl 1.16.0. Called, in float64, on padded tensors:
  verl 0.9.1   verl/trainer/ppo/core_algos.py and rollout_corr_helper.py (the PyPI wheel of 2026)
  TRL 1.16.0   trl/trainer/grpo_trainer.py, GRPOTrainer._compute_loss
What verl imports and these files do not use (ray, tensordict, …) is replaced by empty stand-ins.
verl's grpo_vectorized is left out: it computes in float32, and so agrees with its own grpo to 3e-6 only.
TRL scales advantages in the middle of its sampling code, so these few lines are written out here.
Batches are random and ragged, with an empty row, a fully masked one, a group of one and a group of
equal rewards.
"""
import importlib.machinery
import json
import pathlib
import random
import sys
from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy
import torch

torch.set_default_dtype(torch.float64)


def load_verl(site):
    sys.path.insert(0, site)
    for _ in range(30):
        try:
            import verl.trainer.ppo.core_algos as algos
            import verl.trainer.ppo.rollout_corr_helper as corrections
            algos.ActorConfig = Config  # some losses check the type
            corrections.compute_is_metrics = lambda **_: {}  # divides by zero where all is rejected
            return algos, corrections
        except ModuleNotFoundError as missing:
            stand_in = MagicMock(__spec__=importlib.machinery.ModuleSpec(missing.name, None), __path__=[])
            sys.modules[missing.name] = stand_in
            for name in [name for name in sys.modules if name.split(".")[0] == "verl"]:
                del sys.modules[name]
    raise RuntimeError("verl cannot be imported")


def make_batch(seed, drift=0.4):
    rng = random.Random(seed)
    sizes = [4, 1, 3, 4, 2]  # groups; the fourth has equal rewards
    group = [g for g, size in enumerate(sizes) for _ in range(size)]
    lengths = [rng.randint(1, 6) for _ in group]
    lengths[2] = 0
    rows = lambda draw: [[draw() for _ in range(length)] for length in lengths]
    batch = {"group": group,
             "reward": [0.5 if g == 3 else round(rng.choice((0, 0.1, 1)) + rng.random() / 10, 3) for g in group],
             "mask": rows(lambda: int(rng.random() > 0.2)), "logprob": rows(lambda: round(-rng.expovariate(1), 4))}
    batch["mask"][6] = [0] * lengths[6]
    near = lambda scale: [[round(x + rng.gauss(0, scale), 4) for x in row] for row in batch["logprob"]]
    batch |= {"logprob_behaviour": near(drift), "logprob_proximal": near(drift / 2), "logprob_reference": near(0.5),
              "entropy": rows(lambda: round(rng.expovariate(1), 4)), "value_old": rows(lambda: round(rng.gauss(0, 1), 4))}
    batch["value"] = [[round(x + rng.gauss(0, 0.5), 4) for x in row] for row in batch["value_old"]]
    return batch


class Padded:
    def __init__(self, batch):
        self.lengths = [len(row) for row in batch["logprob"]]
        width = max(self.lengths)
        for key in ("mask", "logprob", "logprob_behaviour", "logprob_proximal", "logprob_reference", "entropy",
                    "value", "value_old"):
            setattr(self, key, torch.tensor([list(row) + [0.0] * (width - len(row)) for row in batch[key]]))
        self.logprob.requires_grad_(True)
        self.value.requires_grad_(True)
        self.group = numpy.array(batch["group"])
        self.reward = torch.tensor(batch["reward"])
        # The whole reward at the last sampled token; a row without one earns it at its first column.
        last = [int(row.nonzero()[-1]) if row.any() else 0 for row in self.mask]
        self.token_reward = torch.zeros_like(self.mask)
        self.token_reward[torch.arange(len(last)), last] = self.reward


class Config(SimpleNamespace):
    def get(self, key, default=None):
        return getattr(self, key, default)


def verl_config(**changes):
    return Config(**({"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 3.0,
                      "global_batch_info": {}} | changes))


VERL = {"singleton_group": "raw", "log_ratio_clamp": 20, "k3_clamp": 10, "empty_sequences": "skip"}
TRL = {"singleton_group": "zero", "empty_sequences": "count"}
CLIP = {"kind": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}
DUAL = CLIP | {"dual_clip": 3.0}
GRPO = {"baseline": "group_mean", "scale": "group_std"}
PLAIN = {"baseline": "group_mean", "scale": "none"}


class Golden:
    def __init__(self):
        self.batches = {f"drift_{d}": make_batch(i, d) for i, d in enumerate((0.2, 0.5, 1.2))}
        self.cases = []

    def case(self, name, source, algorithm, advantage_of, loss_of):
        for key, batch in self.batches.items():
            p = Padded(batch)
            advantage = advantage_of(p)
            if advantage.dim() == 1:
                advantage = advantage.unsqueeze(-1) * p.mask
            loss = loss_of(p, advantage)
            grads = torch.autograd.grad(loss, (p.logprob, p.value), allow_unused=True)
            cut = lambda t: [[round(x, 12) for x in row[:n]] for row, n in zip(t.tolist(), p.lengths)]
            case = {"name": f"{name}.{key}", "source": source, "batch": key,
                    "algorithm": {"filter": {"zero_variance": "keep"}} | algorithm, "loss": loss.item(),
                    "advantage": cut(advantage * p.mask), "grad_logprob": cut(grads[0])}
            if grads[1] is not None:
                case["grad_value"] = cut(grads[1])
            self.cases.append(case)

    def write(self):
        path = pathlib.Path(__file__).with_name("peer_golden.json")
        path.write_text(json.dumps({"batches": self.batches, "cases": self.cases}, separators=(",", ":")) + "\n")
        print(f"{len(self.cases)} cases, {path.stat().st_size} bytes -> {path}")


def add_verl(golden, algos, corrections):
    core = "verl 0.9.1 core_algos.py::"
    grpo = lambda p: algos.compute_grpo_outcome_advantage(p.token_reward.clone(), p.mask, p.group)[0]
    vanilla = lambda p, a, old=None, mode="token-mean", weights=None, **c: algos.compute_policy_loss_vanilla(
        p.logprob_behaviour if old is None else old, p.logprob, a, p.mask, mode, verl_config(**c), weights)[0]
    knobs = lambda advantage, objective=DUAL, mode="token_mean", **rest: {
        "advantage": advantage, "objective": objective, "aggregation": {"mode": mode}, "conventions": VERL} | rest

    advantages = {
        "grpo": (GRPO, grpo, VERL),
        "dr_grpo": (PLAIN, lambda p: algos.compute_grpo_outcome_advantage(
            p.token_reward.clone(), p.mask, p.group, norm_adv_by_std_in_grpo=False)[0], VERL),
        "rloo": ({"baseline": "leave_one_out", "scale": "none"},
                 lambda p: algos.compute_rloo_outcome_advantage(p.token_reward.clone(), p.mask, p.group)[0], VERL),
        "rloo_vectorized": ({"baseline": "leave_one_out", "scale": "none"}, lambda p:
                            algos.compute_rloo_vectorized_outcome_advantage(p.token_reward, p.mask, p.group)[0],
                            VERL | {"singleton_group": "zero"}),
        "opo": ({"baseline": "length_weighted_mean", "scale": "none"},
                lambda p: algos.compute_opo_outcome_advantage(p.token_reward.clone(), p.mask, p.group)[0], VERL),
        "reinforce_plus_plus_baseline": (
            {"baseline": "group_mean", "scale": "token_whiten", "epsilon": 0},
            lambda p: algos.compute_reinforce_plus_plus_baseline_outcome_advantage(
                p.token_reward.clone(), p.mask, p.group)[0], VERL),
    }
    for name, (knob, function, conventions) in advantages.items():
        golden.case(f"verl.advantage.{name}", core + f"compute_{name}_outcome_advantage",
                    knobs(knob) | {"conventions": conventions}, function, vanilla)
    for gamma, lam in ((1, 1), (0.99, 0.9)):
        gae = lambda p: algos.compute_gae_advantage_return(p.token_reward, p.value_old, p.mask, gamma, lam)[0]
        knob = {"baseline": "value", "scale": "token_whiten", "epsilon": 0, "gamma": gamma, "lambda_policy": lam,
                "lambda_value": lam}
        golden.case(f"verl.advantage.gae_{lam}", core + "compute_gae_advantage_return", knobs(knob), gae, vanilla)

        def with_value(p, a):
            returns = algos.compute_gae_advantage_return(p.token_reward, p.value_old, p.mask, gamma, lam)[1]
            value_loss = algos.compute_value_loss(p.value, returns, p.value_old, p.mask, 0.4)[0]
            return vanilla(p, a) + 0.7 * value_loss

        golden.case(f"verl.value_loss_{lam}", core + "compute_value_loss",
                    knobs(knob, auxiliary={"value_coefficient": 0.7, "value_clip": 0.4}), gae, with_value)

    for mode, aggregation in {"seq-mean-token-sum": {"mode": "seq_mean_token_sum"},
                              "seq-mean-token-mean": {"mode": "seq_mean_token_mean"},
                              "seq-mean-token-sum-norm": {"mode": "token_sum_const", "constant": 40}}.items():
        scale = {"global_batch_info": {"loss_scale_factor": 40}}
        golden.case(f"verl.agg_loss.{mode}", core + "agg_loss", knobs(GRPO) | {
            "aggregation": aggregation, "conventions": VERL | {"constant_per": "sequence"}}, grpo,
                    lambda p, a: vanilla(p, a, mode=mode, **scale))
    golden.case("verl.dual_clip", core + "compute_policy_loss_vanilla", knobs(GRPO, CLIP | {"dual_clip": 1.3}), grpo,
                lambda p, a: vanilla(p, a, clip_ratio_c=1.3))
    golden.case("verl.gspo", core + "compute_policy_loss_gspo",
                knobs(GRPO, CLIP | {"ratio": "sequence"}, "seq_mean_token_mean"), grpo,
                lambda p, a: algos.compute_policy_loss_gspo(p.logprob_behaviour, p.logprob, a, p.mask,
                                                            "seq-mean-token-mean", verl_config())[0])
    golden.case("verl.cispo", core + "compute_policy_loss_cispo", knobs(GRPO, CLIP | {"kind": "cispo"}), grpo,
                lambda p, a: algos.compute_policy_loss_cispo(p.logprob_behaviour, p.logprob, a, p.mask, "token-mean",
                                                             verl_config())[0])
    golden.case("verl.reinforce", core + "compute_policy_loss_reinforce",
                knobs(GRPO, {"kind": "pg", "ratio": "none"}, "seq_mean_token_sum"), grpo,
                lambda p, a: algos.compute_policy_loss_reinforce(p.logprob_behaviour, p.logprob, a, p.mask,
                                                                 "seq-mean-token-sum", verl_config())[0])
    for kind in ("k1", "k2", "k3"):
        golden.case(f"verl.kl.{kind}", core + "kl_penalty", knobs(GRPO, kl={"kind": kind, "coefficient": 0.3}), grpo,
                    lambda p, a: vanilla(p, a) + 0.3 * algos.agg_loss(
                        algos.kl_penalty(p.logprob, p.logprob_reference, kind), p.mask, "token-mean"))

    def penalised(p, kind):
        """verl's apply_kl_penalty: the estimate times β off each token's reward."""
        kl = algos.kl_penalty(p.logprob_behaviour, p.logprob_reference, kind) * p.mask
        return p.token_reward - 0.3 * kl

    for kind in ("k1", "k3"):
        golden.case(f"verl.kl_in_reward.{kind}", "verl 0.9.1 ray_trainer.py::apply_kl_penalty",
                    knobs(GRPO, kl={"kind": kind, "coefficient": 0.3, "where": "reward"}),
                    lambda p: algos.compute_grpo_outcome_advantage(penalised(p, kind), p.mask, p.group)[0], vanilla)
        knob = {"baseline": "value", "scale": "token_whiten", "epsilon": 0, "lambda_policy": 0.95, "lambda_value": 0.95}
        golden.case(f"verl.kl_in_token_reward.{kind}", "verl 0.9.1 ray_trainer.py::apply_kl_penalty",
                    knobs(knob, kl={"kind": kind, "coefficient": 0.3, "where": "reward"}),
                    lambda p: algos.compute_gae_advantage_return(penalised(p, kind), p.value_old, p.mask, 1, 0.95)[0],
                    vanilla)

    helper = "verl 0.9.1 rollout_corr_helper.py::"
    trust = lambda p: p.logprob_proximal - p.logprob_behaviour
    decoupled = lambda p, a, weights: vanilla(p, a, old=p.logprob_proximal, weights=weights)
    for level in ("token", "sequence"):
        for kind, threshold, bounds in (("truncate", 1.3, {"cap": 1.3}),
                                        ("mask", "0.8_1.3", {"low": 0.8, "high": 1.3})):
            weights = lambda log_ratio, p: corrections.compute_rollout_correction_weights(
                log_ratio, p.mask, level, threshold)[0]
            knob = {"kind": kind, "level": level, **bounds}
            golden.case(f"verl.correction.{kind}.{level}", helper + "compute_rollout_correction_weights",
                        knobs(GRPO, correction=knob | {"anchor": "recomputed"}), grpo,
                        lambda p, a: decoupled(p, a, weights(trust(p), p)))
            golden.case(f"verl.bypass.{kind}.{level}", core + "compute_policy_loss_bypass_mode (reinforce)",
                        knobs(GRPO, {"kind": "pg", "ratio": "none"}, correction=knob | {"anchor": "behaviour"}), grpo,
                        lambda p, a: algos.compute_policy_loss_reinforce(
                            p.logprob_behaviour, p.logprob, a, p.mask, "token-mean", verl_config(),
                            weights((p.logprob - p.logprob_behaviour).detach(), p))[0])
        # verl bounds the inverse ratio, and takes rejected tokens out of the denominator as well; here
        # its mask multiplies the loss instead, so that the normaliser stays.
        keep = lambda p: corrections.compute_rollout_rejection_mask(
            trust(p), p.mask, "token_k1" if level == "token" else "seq_mean_k1", f"{1 / 1.15}_{1 / 0.9}")[0]
        golden.case(f"verl.correction.geometric_reject.{level}", helper + "compute_rollout_rejection_mask",
                    knobs(GRPO, correction={"kind": "geometric_reject", "level": level, "low": 0.9, "high": 1.15,
                                            "anchor": "recomputed"}), grpo,
                    lambda p, a: decoupled(p, a, keep(p)))


def trl_trainer(p, **settings):
    """As much of a GRPOTrainer as _compute_loss looks at."""
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x,
                                  reduce=lambda x, reduction="sum": x, sync_gradients=True)
    fields = dict(
        _get_per_token_logps_and_entropies=lambda *_, **__: (p.logprob, p.entropy, None), aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=0.0,
        epsilon_low=0.2, epsilon_high=0.28, loss_type="dapo", use_vllm=False, use_adaptive_entropy=False,
        vllm_importance_sampling_correction=False, model=SimpleNamespace(training=True), accelerator=accelerator,
        current_gradient_accumulation_steps=1, max_completion_length=6, _entropy_bonus_enabled=False,
        entropy_coef=0.0, _metrics=defaultdict(lambda: defaultdict(list)))
    args = dict(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    for key, value in settings.items():
        (args if key in args else fields)[key] = value
    return SimpleNamespace(args=SimpleNamespace(**args), **fields)


def trl_loss(p, advantage, weights=None, **settings):
    from trl.trainer.grpo_trainer import GRPOTrainer
    ids = torch.zeros(p.mask.shape, dtype=torch.long)
    inputs = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": p.mask,
              "advantages": advantage, "num_items_in_batch": p.mask.sum(), "old_per_token_logps": p.logprob_behaviour,
              "ref_per_token_logps": p.logprob_reference}
    if weights is not None:
        inputs |= {"importance_sampling_ratio": weights, "old_per_token_logps": p.logprob_proximal}
        settings |= {"use_vllm": True, "vllm_importance_sampling_correction": True}
    return GRPOTrainer._compute_loss(trl_trainer(p, **settings), None, inputs)


def trl_advantage(p, scale):
    """_generate_and_score_completions: centred by group, divided by a deviation + 1e-4."""
    out = torch.zeros_like(p.reward)
    for i, reward in enumerate(p.reward):
        scores = p.reward[torch.from_numpy(p.group == p.group[i])]
        out[i] = reward - scores.mean()
        if scale == "group":
            out[i] /= (scores.std() if len(scores) > 1 else 0) + 1e-4
    return out / (p.reward.std() + 1e-4) if scale == "batch" else out


def add_trl(golden):
    source = "TRL 1.16.0 grpo_trainer.py::GRPOTrainer._compute_loss, "
    knobs = lambda objective=CLIP, mode="token_mean", advantage=GRPO, **rest: {
        "advantage": advantage | {"epsilon": 1e-4}, "objective": objective, "aggregation": {"mode": mode},
        "conventions": TRL} | rest
    group = lambda p: trl_advantage(p, "group")
    golden.case("trl.grpo", source + "grpo", knobs(mode="seq_mean_token_mean"), group,
                lambda p, a: trl_loss(p, a, loss_type="grpo"))
    golden.case("trl.bnpo", source + "bnpo", knobs(), group, lambda p, a: trl_loss(p, a, loss_type="bnpo"))
    golden.case("trl.dapo_delta", source + "dapo", knobs(CLIP | {"ratio_cap": 1.5}), group,
                lambda p, a: trl_loss(p, a, delta=1.5))
    golden.case("trl.dapo_kl", source + "beta", knobs(kl={"kind": "k3", "coefficient": 0.04}), group,
                lambda p, a: trl_loss(p, a, beta=0.04))
    golden.case("trl.dr_grpo", source + "dr_grpo", knobs(advantage=PLAIN) | {
        "aggregation": {"mode": "token_sum_const", "constant": 6}, "conventions": TRL | {"constant_per": "sequence"}},
                lambda p: trl_advantage(p, "none"), lambda p, a: trl_loss(p, a, loss_type="dr_grpo"))
    golden.case("trl.cispo_batch", source + "cispo", knobs({"kind": "cispo", "clip_high": 1.5},
                advantage=PLAIN | {"scale": "batch_std"}) | {"conventions": TRL | {"cispo_bound": "absolute"}},
                lambda p: trl_advantage(p, "batch"), lambda p, a: trl_loss(p, a, loss_type="cispo", epsilon_high=1.5))
    golden.case("trl.gspo", source + "importance_sampling_level sequence",
                knobs(CLIP | {"ratio": "sequence"}, "seq_mean_token_mean"), group,
                lambda p, a: trl_loss(p, a, loss_type="grpo", importance_sampling_level="sequence"))
    golden.case("trl.entropy", source + "entropy_coef", knobs(entropy={"kind": "fixed", "coefficient": 0.02}), group,
                lambda p, a: trl_loss(p, a, _entropy_bonus_enabled=True, entropy_coef=0.02))
    adaptive = {"kind": "adaptive", "coefficient": 0.02, "target": 0, "step": 0.005, "max": 1}
    for target, applied in ((0.1, 0.0), (10.0, 0.02)):
        golden.case(f"trl.adaptive_entropy_{target}", source + "use_adaptive_entropy",
                    knobs(entropy=adaptive | {"target": target}), group,
                    lambda p, a: trl_loss(p, a, _entropy_bonus_enabled=True, entropy_coef=applied))
    cap = lambda p: (p.logprob_proximal - p.logprob_behaviour).exp().clamp(max=1.2)
    golden.case("trl.truncated_importance", source + "importance_sampling_ratio",
                knobs(correction={"kind": "truncate", "cap": 1.2, "anchor": "recomputed"}), group,
                lambda p, a: trl_loss(p, a, weights=cap(p)))


def main():
    algos, corrections = load_verl(sys.argv[1])
    golden = Golden()
    add_verl(golden, algos, corrections)
    add_trl(golden)
    golden.write()


if __name__ == "__main__":
    main()
