"""Compares log-probabilities with transformers over random checkpoints of every family.

Usage: model_parity.py SCORE…   where SCORE is the command that answers `--model DIR --json` with
scores, e.g.  model_parity.py build/release/bin/tramontane-generator score
Prints the largest difference of each checkpoint, in the config form of transformers 5 and of 4;
with --init BINARY (tramontane-trainer) also of models that we made and transformers loads.
Exits 1 if one is above 1e-4.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = dict(vocab_size=300, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
             initializer_range=0.2, bos_token_id=None, eos_token_id=3)
CASES = {
    "llama": {},
    "llama tied, biases": dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama llama3 rope": dict(rope_parameters=dict(
        rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64)),
    "llama linear rope": dict(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=3.0)),
    "mistral": dict(sliding_window=None),
    "mistral window": dict(sliding_window=16),
    "qwen2": dict(tie_word_embeddings=True),
    "qwen2 window": dict(use_sliding_window=True, sliding_window=24, max_window_layers=1),
    "qwen3": dict(head_dim=32),
    "qwen3 yarn": dict(head_dim=32, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64)),
    "qwen3_moe": dict(head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48,
                      norm_topk_prob=True),
    "qwen3_moe mixed": dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40,
                            mlp_only_layers=[0]),
    "mixtral": dict(num_local_experts=4, intermediate_size=96),
    "mixtral window": dict(num_local_experts=5, num_experts_per_tok=1, sliding_window=16),
}


def to_old_form(folder):
    """Rewrites config.json as transformers 4 did."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else dict(parameters, rope_type=kind)
    config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    path.write_text(json.dumps(config))


def peer_logprobs(model, rows):
    out = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0].float()
        out.append(torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(row)[1:, None])[:, 0])
    return torch.cat(out)


def our_logprobs(command, folder, rows):
    result = subprocess.run([*command, "--model", str(folder), "--json"],
                            input=json.dumps({"tokens": rows}), capture_output=True, text=True,
                            timeout=300)
    if result.returncode != 0:
        sys.exit(f"{command} failed on {folder}: {result.stderr}")
    return torch.tensor([x for row in json.loads(result.stdout)["logprobs"] for x in row])


def made_by_us(command, init, rows):
    """Largest difference over fresh models of ours, loaded by transformers."""
    worst = 0.0
    for family in ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral"):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "model"
            fields = {**SIZES, "model_type": family, "tie_word_embeddings": family == "qwen3"}
            if family in ("qwen3_moe", "mixtral"):
                fields |= {"num_local_experts": 4, "num_experts_per_tok": 2,
                           "moe_intermediate_size": 64}
            subprocess.run([init, "init", "--out", str(out), "--tokenizer", folder, "--seed", "3"],
                           input=json.dumps(fields), check=True, timeout=300, capture_output=True,
                           text=True)
            model, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
            if any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
                sys.exit(f"transformers found other tensors in our {family} model: {report}")
            expected = peer_logprobs(model.eval(), rows)
            gap = (our_logprobs(command, out, rows) - expected).abs().max().item()
        print(f"{family + ', ours':22}        largest difference {gap:.2e}")
        worst = max(worst, gap)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", help="the binary whose `init` makes models")
    parser.add_argument("command", nargs="+", help="the scoring command")
    arguments = parser.parse_args()
    worst = 0.0
    for number, (name, fields) in enumerate(CASES.items()):
        torch.manual_seed(number)
        config = AutoConfig.for_model(name.split()[0], **{**SIZES, **fields})
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "norm" in key:
                    parameter.uniform_(0.5, 1.5)
                elif key.endswith("bias"):
                    parameter.normal_(0, 0.3)
        rows = [torch.randint(300, (length,)).tolist() for length in (2, 40, 111, 256)]
        expected = peer_logprobs(model, rows)
        for form in ("5", "4"):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                # Small shards, so that the index is read too.
                model.save_pretrained(folder, max_shard_size="200KB" if form == "4" else "5GB")
                if form == "4":
                    to_old_form(folder)
                gap = (our_logprobs(arguments.command, folder, rows) - expected).abs().max().item()
            print(f"{name:22} form {form}: largest difference {gap:.2e}")
            worst = max(worst, gap)
    if arguments.init:
        worst = max(worst, made_by_us(arguments.command, arguments.init, rows))
    print(f"largest of all {worst:.2e}")
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
