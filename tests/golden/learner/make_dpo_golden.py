"""Writes dpo_golden.json: loss and gradients of TRL's own DPO on random ragged pairs.

    python make_dpo_golden.py

Needs torch and trl 1.16.0, whose DPOTrainer._compute_loss is called in float64 with a model that
answers with given log-probabilities. Per pair: chosen, rejected; per case: the flat lists of both.
"""
import json
import pathlib
import random
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from trl.trainer.dpo_trainer import DPOTrainer

torch.set_default_dtype(torch.float64)


def padded(rows, width):
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows])


def evaluate(loss_type, beta, policy, reference):
    """Rows alternate chosen, rejected; TRL wants all chosen first."""
    order = list(range(0, len(policy), 2)) + list(range(1, len(policy), 2))
    width = max(map(len, policy))
    logprobs = padded([policy[i] for i in order], width).requires_grad_(True)
    mask = torch.tensor([[0] + [1] * len(policy[i]) + [0] * (width - len(policy[i])) for i in order])
    answer = lambda values: SimpleNamespace(log_probs=values, entropy=torch.zeros_like(values), aux_loss=None,
                                            mean_logits=torch.zeros_like(values), is_top1=values > 1)
    trainer = MagicMock()
    trainer.model.training = False  # counts no tokens
    trainer.accelerator.device = "cpu"
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    trainer.aux_loss_enabled = trainer.precompute_ref_logps = trainer.use_weighting = False
    trainer.ld_alpha, trainer.f_divergence_type, trainer.beta = None, "reverse_kl", beta
    trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = [loss_type], [1.0], 0.0
    trainer.ref_model = lambda **_: answer(padded([reference[i] for i in order], width))
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": mask, "completion_mask": mask}
    loss = DPOTrainer._compute_loss(trainer, lambda **_: answer(logprobs * mask[:, 1:]), inputs, False)
    loss.backward()
    gradient = [None] * len(policy)
    for place, i in enumerate(order):
        gradient[i] = logprobs.grad[place, :len(policy[i])].tolist()
    return loss.item(), gradient


def main():
    rng = random.Random(5)
    cases = []
    for loss_type in ("sigmoid", "sigmoid_norm"):
        for beta in (0.1, 2.5):
            lengths = [rng.randint(1, 7) for _ in range(10)]
            policy = [[-rng.expovariate(1) for _ in range(n)] for n in lengths]
            reference = [[x + rng.gauss(0, 0.8) for x in row] for row in policy]
            loss, gradient = evaluate(loss_type, beta, policy, reference)
            cases.append({"length_normalised": loss_type == "sigmoid_norm", "beta": beta, "policy": policy,
                          "reference": reference, "loss": loss, "grad_logprob": gradient})
    path = pathlib.Path(__file__).with_name("dpo_golden.json")
    path.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
