"""Writes loss_golden.json: losses, advantages and gradients as published implementations define them.

    python make_golden.py        # needs torch; writes beside itself

Written from the definitions, in float64, on padded [B, T] tensors and with autograd: another layout
and another way to the gradient than the C++ code. Each function names what it follows:
  verl 0.9.1   verl/trainer/ppo/core_algos.py
  TRL 1.16.0   trl/trainer/grpo_trainer.py (GRPOTrainer._compute_loss and reward scaling)
  Magistral    arXiv 2506.10910, section 2.1
"""
import json
import pathlib
import random

import torch

torch.set_default_dtype(torch.float64)


def make_batch(seed, groups=4, size=4, max_len=7, rewards=(0.0, 0.1, 1.0), ragged=True, mask_rate=0.2, drift=0.3):
    """A ragged batch with interior masks, an empty row and a fully masked row."""
    rng = random.Random(seed)
    n = groups * size
    lengths = [rng.randint(1, max_len) if ragged else max_len for _ in range(n)]
    if ragged:
        lengths[1] = 0
    rows = lambda f: [[f() for _ in range(length)] for length in lengths]
    batch = {"group": [i // size for i in range(n)], "reward": [rng.choice(rewards) for _ in range(n)],
             "logprob": rows(lambda: round(-rng.expovariate(1.0), 4)),
             "mask": rows(lambda: int(rng.random() >= mask_rate))}
    if ragged:
        batch["mask"][2] = [0] * lengths[2]
    shift = lambda scale: [[round(x + rng.gauss(0, scale), 4) for x in row] for row in batch["logprob"]]
    batch["logprob_behaviour"] = shift(drift)
    batch["logprob_proximal"] = shift(drift / 2)
    batch["logprob_reference"] = shift(0.5)
    batch["entropy"] = rows(lambda: round(rng.expovariate(1.0), 4))
    return batch


class Padded:
    """[B, T] tensors of a ragged batch; padding has mask 0."""

    def __init__(self, batch):
        self.lengths = [len(row) for row in batch["logprob"]]
        width = max(self.lengths)
        pad = lambda rows: torch.tensor([list(row) + [0.0] * (width - len(row)) for row in rows])
        self.logp = pad(batch["logprob"]).requires_grad_(True)
        self.mask = pad(batch["mask"])
        self.old = pad(batch["logprob_behaviour"])
        self.prox = pad(batch["logprob_proximal"])
        self.ref = pad(batch["logprob_reference"])
        self.entropy = pad(batch["entropy"])
        self.reward = torch.tensor(batch["reward"])
        self.group = torch.tensor(batch["group"])
        self.tokens = self.mask.sum(-1)

    def members(self, i):
        return self.group == self.group[i]


# --- advantages, [B]


def grpo(p, eps, by_std=True):
    """verl compute_grpo_outcome_advantage: unbiased std; a group of one has mean 0 and std 1."""
    out = []
    for i, r in enumerate(p.reward):
        scores = p.reward[p.members(i)]
        mean, std = (scores.mean(), scores.std()) if len(scores) > 1 else (torch.tensor(0.0), torch.tensor(1.0))
        out.append((r - mean) / (std + eps) if by_std else r - mean)
    return torch.stack(out)


def rloo(p):
    """verl compute_rloo_outcome_advantage."""
    out = []
    for i, r in enumerate(p.reward):
        scores = p.reward[p.members(i)]
        n = len(scores)
        out.append(r * n / (n - 1) - scores.mean() * n / (n - 1) if n > 1 else r)
    return torch.stack(out)


def trl_batch_scaled(p):
    """TRL scale_rewards="batch": centred by group, divided by the std of the raw rewards + 1e-4."""
    return grpo(p, 0, by_std=False) / (p.reward.std() + 1e-4)


def reinforce_pp_baseline(p):
    """verl compute_reinforce_plus_plus_baseline_outcome_advantage: whitened over masked tokens."""
    centred = grpo(p, 0, by_std=False).unsqueeze(-1) * p.mask
    n = p.mask.sum()
    mean = (centred * p.mask).sum() / n
    var = ((centred - mean).square() * p.mask).sum() / n * n / (n - 1)
    # One value per sequence: unmasked tokens of a row share it.
    return (grpo(p, 0, by_std=False) - mean) * torch.rsqrt(var + 1e-8)


def magistral(p, eps):
    """Reward minus group mean, then divided by the minibatch's std of that; flat groups are gone."""
    alive = torch.stack([p.reward[p.members(i)].max() > p.reward[p.members(i)].min() for i in range(len(p.reward))])
    centred = grpo(p, 0, by_std=False)
    return torch.where(alive, centred / (centred[alive].std() + eps), 0.0), alive


# --- aggregations of a [B, T] loss


def token_mean(loss, mask):
    """verl agg_loss token-mean; TRL bnpo/dapo."""
    return (loss * mask).sum() / mask.sum()


def seq_mean_token_mean(loss, mask):
    """verl agg_loss seq-mean-token-mean: rows without tokens are left out; 1e-8 in the inner denominator."""
    rows = (loss * mask).sum(-1) / (mask.sum(-1) + 1e-8)
    return rows.sum() / (mask.sum(-1) > 0).sum()


def seq_mean_token_sum(loss, mask):
    """verl agg_loss seq-mean-token-sum."""
    return (loss * mask).sum() / (mask.sum(-1) > 0).sum()


def trl_grpo_mean(loss, mask):
    """TRL loss_type grpo: rows without tokens count."""
    return ((loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()


# --- objectives, [B, T]


def verl_vanilla(p, adv, old, low, high, c=3.0):
    """verl compute_policy_loss_vanilla: log-ratio clamped to ±20, dual clip."""
    ratio = (p.logp - old).clamp(-20, 20).exp()
    first = torch.maximum(-adv * ratio, -adv * ratio.clamp(1 - low, 1 + high))
    return torch.where(adv < 0, torch.min(-adv * c, first), first)


def trl_clip(p, adv, old, low, high, delta=None):
    """TRL grpo/bnpo/dapo with the two-sided bound delta."""
    ratio = (p.logp - old).exp()
    second = ratio.clamp(1 - low, 1 + high)
    if delta is not None:
        ratio = ratio.clamp(max=delta)
    return -torch.min(ratio * adv, second * adv)


def gspo(p, adv, old, low, high):
    """verl compute_policy_loss_gspo."""
    mean = ((p.logp - old) * p.mask).sum(-1) / p.mask.sum(-1).clamp(min=1)
    ratio = (p.logp - p.logp.detach() + mean.detach().unsqueeze(-1)).clamp(max=10).exp()
    return torch.maximum(-adv * ratio, -adv * ratio.clamp(1 - low, 1 + high))


def cispo(p, adv, old, low, high):
    """verl compute_policy_loss_cispo."""
    ratio = (p.logp - old).clamp(-20, 20).exp()
    return -ratio.clamp(1 - low, 1 + high).detach() * adv * p.logp


def trl_cispo(p, adv, old, high):
    """TRL loss_type cispo: an absolute upper bound only."""
    return -(p.logp - old).exp().clamp(max=high).detach() * adv * p.logp


def verl_k3(p):
    """verl kl_penalty low_var_kl."""
    d = (p.ref - p.logp).clamp(-20, 20)
    return (d.exp() - d - 1).clamp(-10, 10)


def trl_k3(p):
    return (p.ref - p.logp).exp() - (p.ref - p.logp) - 1


VERL = {"singleton_group": "raw", "log_ratio_clamp": 20, "k3_clamp": 10, "empty_sequences": "skip"}
TRL = {"singleton_group": "zero", "empty_sequences": "count"}
KEEP = {"zero_variance": "keep"}
CASES = []


def case(name, batch, algorithm, adv, loss_of, tolerance=1e-9):
    p = Padded(batch)
    a = adv(p)
    per_token = a.unsqueeze(-1) * p.mask
    loss = loss_of(p, per_token)
    grad, = torch.autograd.grad(loss, p.logp)
    cut = lambda t: [row[:n] for row, n in zip(t.tolist(), p.lengths)]
    CASES.append({"name": name, "tolerance": tolerance,
                  "request": {"algorithm": algorithm, "batch": batch, "dtype": "float64"},
                  "loss": loss.item(), "advantage": cut(per_token), "grad_logprob": cut(grad)})


def algorithm(advantage, objective, mode="token_mean", **rest):
    return {"advantage": advantage, "objective": objective, "aggregation": {"mode": mode}, "filter": KEEP, **rest}


def main():
    group_std = {"baseline": "group_mean", "scale": "group_std", "epsilon": 1e-6}
    trl_group_std = {**group_std, "epsilon": 1e-4}
    plain = {"baseline": "group_mean", "scale": "none"}
    clip = {"kind": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}

    b = make_batch(1)
    case("verl_grpo_token_mean", b, algorithm(group_std, {**clip, "dual_clip": 3.0}, conventions=VERL),
         lambda p: grpo(p, 1e-6), lambda p, a: token_mean(verl_vanilla(p, a, p.old, .2, .28), p.mask))
    case("verl_grpo_dual_clip_bites", make_batch(2, drift=1.5),
         algorithm(group_std, {**clip, "dual_clip": 1.5}, "seq_mean_token_mean",
                   conventions={**VERL, "denominator_epsilon": 0}),
         lambda p: grpo(p, 1e-6), lambda p, a: seq_mean_token_mean(verl_vanilla(p, a, p.old, .2, .28, 1.5), p.mask),
         tolerance=1e-7)
    case("verl_rloo_seq_sum", make_batch(3), algorithm({"baseline": "leave_one_out", "scale": "none"},
         {**clip, "dual_clip": 3.0}, "seq_mean_token_sum", conventions=VERL), rloo,
         lambda p, a: seq_mean_token_sum(verl_vanilla(p, a, p.old, .2, .28), p.mask))
    case("verl_gspo", make_batch(4, drift=0.5), algorithm(group_std,
         {"kind": "ppo_clip", "ratio": "sequence", "clip_low": .1, "clip_high": .12}, "seq_mean_token_mean",
         conventions={**VERL, "log_ratio_clamp": None}),
         lambda p: grpo(p, 1e-6), lambda p, a: seq_mean_token_mean(gspo(p, a, p.old, .1, .12), p.mask), tolerance=1e-7)
    case("verl_cispo", make_batch(5, drift=0.5), algorithm(group_std,
         {"kind": "cispo", "clip_low": .2, "clip_high": .28}, conventions=VERL),
         lambda p: grpo(p, 1e-6), lambda p, a: token_mean(cispo(p, a, p.old, .2, .28), p.mask))
    case("verl_reinforce_pp_baseline", make_batch(6, mask_rate=0), algorithm({"baseline": "group_mean",
         "scale": "token_whiten", "epsilon": 0}, clip, conventions=VERL), reinforce_pp_baseline,
         lambda p, a: token_mean(trl_clip(p, a, p.old, .2, .28), p.mask), tolerance=1e-6)
    case("verl_kl_k3_clamped", make_batch(7), algorithm(group_std, {**clip, "dual_clip": 3.0},
         kl={"kind": "k3", "coefficient": .05}, conventions=VERL), lambda p: grpo(p, 1e-6),
         lambda p, a: token_mean(verl_vanilla(p, a, p.old, .2, .28) + .05 * verl_k3(p), p.mask))
    case("verl_truncated_is_over_recomputed_anchor", make_batch(8, drift=0.6), algorithm(group_std, {**clip,
         "dual_clip": 3.0}, correction={"kind": "truncate", "cap": 1.2, "anchor": "recomputed"}, conventions=VERL),
         lambda p: grpo(p, 1e-6), lambda p, a: token_mean(verl_vanilla(p, a, p.prox, .2, .28)
                                                          * (p.prox - p.old).exp().clamp(max=1.2), p.mask))

    # TRL's empty rows count as sequences; its groups of one do not occur.
    t = make_batch(9)
    case("trl_grpo", t, algorithm(trl_group_std, clip, "seq_mean_token_mean", kl={"kind": "k3", "coefficient": .04},
         conventions=TRL), lambda p: grpo(p, 1e-4),
         lambda p, a: trl_grpo_mean(trl_clip(p, a, p.old, .2, .28) + .04 * trl_k3(p), p.mask))
    case("trl_dapo_with_delta", make_batch(10, drift=1.0), algorithm(trl_group_std, {**clip, "ratio_cap": 1.6},
         conventions=TRL), lambda p: grpo(p, 1e-4),
         lambda p, a: token_mean(trl_clip(p, a, p.old, .2, .28, 1.6), p.mask))
    d = make_batch(11)
    horizon = 7 * len(d["reward"])
    case("trl_dr_grpo", d, {**algorithm(plain, clip), "aggregation": {"mode": "token_sum_const", "constant": horizon},
         "conventions": TRL}, lambda p: grpo(p, 0, by_std=False),
         lambda p, a: (trl_clip(p, a, p.old, .2, .28) * p.mask).sum() / horizon)
    case("trl_cispo_batch_scaled", make_batch(12, drift=0.8), algorithm({"baseline": "group_mean",
         "scale": "batch_std", "epsilon": 1e-4}, {"kind": "cispo", "clip_high": 1.3},
         conventions={**TRL, "cispo_bound": "absolute"}), trl_batch_scaled,
         lambda p, a: token_mean(trl_cispo(p, a, p.old, 1.3), p.mask))

    m = make_batch(13, rewards=(0.1, 1.0))
    for i in range(4, 8):
        m["reward"][i] = 1.0  # a flat group: gone from the loss and from its denominator
    case("magistral", m, {}, lambda p: magistral(p, 1e-6)[0],
         lambda p, a: token_mean(trl_clip(p, a, p.old, .2, .28), p.mask * magistral(p, 1e-6)[1].unsqueeze(-1)))

    path = pathlib.Path(__file__).with_name("loss_golden.json")
    path.write_text(json.dumps(CASES, separators=(",", ":")) + "\n")
    print(f"{len(CASES)} cases, {path.stat().st_size} bytes -> {path}")


if __name__ == "__main__":
    main()
