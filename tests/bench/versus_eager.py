#!/usr/bin/env python3
"""Training steps beside PyTorch's eager step: same checkpoint, same batch, same machine, one run.

    python tests/bench/versus_eager.py [--models 1M,10M] [--threads 2] [--rounds 3] [--steps 5]
        [--groups 8 --samples 8 --prompt-tokens 32 --response-tokens 96] [--microbatch-tokens 2048]
        [--tool build/release/bin/tramontane] [--json FILE]

Ours is `tramontane bench train`. Eager is what a trainer written on transformers does: the padded
batch through the model, log-softmax over all logits, the clipped ratio's loss over the response
tokens, backward, gradient clipping, fused AdamW; in as many microbatches as ours. All sequences are
of one length, so that nothing is lost to padding. A round of one, a round of the other; the best
tokens/s of each count, and the peak memory of each one's own process; `libraries_mib` of eager's is
what Python and its libraries take before there is a model. Needs a Python with torch and transformers 5.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {
    "1M": dict(hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
               num_key_value_heads=2, vocab_size=512),
    "10M": dict(hidden_size=320, intermediate_size=864, num_hidden_layers=8, num_attention_heads=5,
                num_key_value_heads=5, vocab_size=1024),
    "100M": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
                 num_key_value_heads=12, vocab_size=8192),
}


def make_model(tool, name, folder):
    shape = SHAPES[name]
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-6,
              "head_dim": shape["hidden_size"] // shape["num_attention_heads"], "eos_token_id": 0,
              "max_position_embeddings": 4096, "tie_word_embeddings": True, "rope_theta": 10000.0, **shape}
    subprocess.run([tool, "init-model", "--out", folder, "--tokenizer", SOURCE / "examples/demo/tokenizer",
                    "--json"], input=json.dumps(config), text=True, check=True, stdout=subprocess.DEVNULL)


def measure_ours(args, model):
    done = subprocess.run(
        [args.tool, "bench", "train", "--model", model, "--json", "--groups", str(args.groups), "--samples",
         str(args.samples), "--prompt-tokens", str(args.prompt_tokens), "--response-tokens",
         str(args.response_tokens), "--steps", str(args.steps), "--threads", str(args.threads),
         "--microbatch-tokens", str(args.microbatch_tokens)],
        stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    return {"tokens_per_second": report["tokens_per_second"], "peak_memory_mib": report["peak_memory_mib"],
            "model_flop_share": report["model_flop_share"]}


def eager_step(torch, model, optimiser, batch, args, clock):
    """Tokens [rows, length]; the last prompt token predicts the first response token."""
    rows, length = batch["tokens"].shape
    per_microbatch = max(1, args.microbatch_tokens // length)
    optimiser.zero_grad(set_to_none=True)
    for first in range(0, rows, per_microbatch):
        tokens = batch["tokens"][first:first + per_microbatch]
        logits = model(input_ids=tokens[:, :-1]).logits[:, args.prompt_tokens - 1:]
        logprob = torch.log_softmax(logits.float(), -1).gather(
            -1, tokens[:, args.prompt_tokens:, None]).squeeze(-1)
        ratio = torch.exp(logprob - batch["behaviour"][first:first + per_microbatch])
        advantage = batch["advantage"][first:first + per_microbatch, None]
        loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage).sum()
        (loss / (rows * args.response_tokens)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return clock()


def run_eager(args):
    """In a process of its own, so that its memory is its own."""
    import torch
    from transformers import AutoModelForCausalLM
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.eager, dtype=torch.float32, attn_implementation="sdpa")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    rows = args.groups * args.samples
    batch = {"tokens": torch.randint(model.config.vocab_size,
                                     (rows, args.prompt_tokens + args.response_tokens)),
             "behaviour": torch.full((rows, args.response_tokens), -5.0),
             "advantage": torch.tensor([1.0, -1.0]).repeat(math.ceil(rows / 2))[:rows]}
    times = []
    for _ in range(args.steps + 1):
        begin = time.perf_counter()
        times.append(eager_step(torch, model, optimiser, batch, args, time.perf_counter) - begin)
    tokens = rows * (args.prompt_tokens + args.response_tokens - 1)
    median = sorted(times[1:])[len(times[1:]) // 2]
    print(json.dumps({"tokens_per_second": tokens / median,
                      "libraries_mib": libraries,
                      "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def measure_eager(args, model):
    again = [sys.executable, __file__, "--eager", str(model), *sys.argv[1:]]
    done = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def best(rounds):
    return {"tokens_per_second": max(r["tokens_per_second"] for r in rounds),
            "peak_memory_mib": max(r["peak_memory_mib"] for r in rounds)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="1M,10M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--response-tokens", type=int, default=96)
    parser.add_argument("--microbatch-tokens", type=int, default=2048)
    parser.add_argument("--tool", default=str(SOURCE / "build/release/bin/tramontane"))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--eager", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.eager:
        return run_eager(args)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            model = pathlib.Path(folder) / name
            make_model(args.tool, name, model)
            ours, eager = [], []
            for _ in range(args.rounds):
                ours.append(measure_ours(args, model))
                eager.append(measure_eager(args, model))
            a, b = best(ours), best(eager)
            b["libraries_mib"] = eager[0]["libraries_mib"]
            results[name] = {"ours": a, "eager": b, "speed_ratio": a["tokens_per_second"] / b["tokens_per_second"],
                             "memory_ratio": a["peak_memory_mib"] / b["peak_memory_mib"],
                             "model_flop_share": max(r["model_flop_share"] for r in ours)}
            print(f"{name}: ours {a['tokens_per_second']:.0f} tokens/s, {a['peak_memory_mib']:.0f} MiB; "
                  f"eager {b['tokens_per_second']:.0f} tokens/s, {b['peak_memory_mib']:.0f} MiB; "
                  f"{results[name]['speed_ratio']:.2f} times as fast, "
                  f"{results[name]['memory_ratio']:.2f} of the memory", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
