#!/usr/bin/env python3
"""Training steps beside PyTorch's eager step: same checkpoint, same batch shapes, same machine, one run.

    python tests/bench/versus_eager.py [--models 1M,10M] [--lengths equal|ragged] [--threads 2]
        [--rounds 3] [--steps 5] [--groups 8 --samples 8 --prompt-tokens 32 --response-tokens 96]
        [--microbatch-tokens 2048] [--share-prompts true|false] [--tool build/release/bin/tramontane]
        [--json FILE]

Ours is `tramontane bench train`. Eager is what a trainer written on transformers does: rows of prompt and
response through the model, logits and log-softmax of the response positions, the clipped ratio's loss over
the response tokens, backward, gradient clipping, fused AdamW. Its microbatches have the number of rows,
of 4, 8, 16, … up to all, with which its step is fastest, tried before the rounds. Lengths are those that ours
reports: all alike, or ragged as reasoning models answer; then eager pads each microbatch on the right to its
longest row, with an attention mask. Tokens are those of the sequences, for both: padding does not count, and
a prompt counts once a sample although ours computes it once a microbatch. A round of one, a round of the
other; the best tokens/s of each count, and the peak memory of each one's own process; `libraries_mib` of
eager's is what Python and its libraries take before there is a model. Needs a Python with torch and
transformers 5.
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
         str(args.response_tokens), "--lengths", args.lengths, "--steps", str(args.steps), "--threads",
         str(args.threads), "--microbatch-tokens", str(args.microbatch_tokens), "--share-prompts",
         args.share_prompts],
        stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def padded(torch, batch, rows):
    """Microbatches of `rows` rows. Where all rows of one are as long, it needs no mask."""
    for first in range(0, len(batch["lengths"]), rows):
        lengths = batch["lengths"][first:first + rows]
        longest = int(lengths.max())
        real = torch.arange(longest)[None] < lengths[:, None]
        prompts = torch.ones(len(lengths), batch["prompt"].shape[1], dtype=torch.long)
        tokens = torch.cat([batch["prompt"][first:first + rows],
                            batch["response"][first:first + rows, :longest].masked_fill(~real, 0)], 1)
        mask = None if bool(real.all()) else torch.cat([prompts, real.long()], 1)[:, :-1]
        yield {"tokens": tokens, "mask": mask, "real": real, "longest": longest,
               "behaviour": batch["behaviour"][first:first + rows, :longest],
               "advantage": batch["advantage"][first:first + rows, None]}


def eager_step(torch, model, optimiser, batch, rows):
    """The last prompt token predicts the first response token; only response positions meet the head."""
    optimiser.zero_grad(set_to_none=True)
    for part in padded(torch, batch, rows):
        response = part["tokens"][:, -part["longest"]:]
        logits = model(input_ids=part["tokens"][:, :-1], attention_mask=part["mask"],
                       logits_to_keep=part["longest"], use_cache=False).logits
        logprob = torch.log_softmax(logits.float(), -1).gather(-1, response[..., None]).squeeze(-1)
        ratio = torch.exp(logprob - part["behaviour"])
        advantage = part["advantage"]
        loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
        ((loss * part["real"]).sum() / batch["lengths"].sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def run_eager(args):
    """In a process of its own, so that its memory is its own. On standard input: the responses' lengths and
    the numbers of rows to try."""
    import torch
    from transformers import AutoModelForCausalLM
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked = json.load(sys.stdin)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.eager, dtype=torch.float32, attn_implementation="sdpa")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    lengths = torch.tensor(asked["lengths"])
    count, longest = len(lengths), int(lengths.max())
    batch = {"lengths": lengths, "prompt": torch.randint(model.config.vocab_size, (count, args.prompt_tokens)),
             "response": torch.randint(model.config.vocab_size, (count, longest)),
             "behaviour": torch.full((count, longest), -5.0),
             "advantage": torch.tensor([1.0, -1.0]).repeat(math.ceil(count / 2))[:count]}
    seconds = {}
    for rows in asked["rows"]:
        times = []
        for _ in range(args.steps + 1):
            begin = time.perf_counter()
            eager_step(torch, model, optimiser, batch, rows)
            times.append(time.perf_counter() - begin)
        seconds[rows] = sorted(times[1:])[len(times[1:]) // 2]
    rows = min(seconds, key=seconds.get)
    tokens = count * (args.prompt_tokens - 1) + int(lengths.sum())
    print(json.dumps({"rows": rows, "input_tokens": tokens, "tokens_per_second": tokens / seconds[rows],
                      "libraries_mib": libraries,
                      "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def measure_eager(args, model, lengths, rows):
    again = [sys.executable, __file__, "--eager", str(model), *sys.argv[1:]]
    done = subprocess.run(again, input=json.dumps({"lengths": lengths, "rows": rows}), stdout=subprocess.PIPE,
                          text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_to_try(total):
    return [rows for rows in (4 << n for n in range(12)) if rows < total] + [total]


def compare(args, model):
    lengths = measure_ours(args, model)["response_lengths"]
    rows = measure_eager(args, model, lengths, rows_to_try(len(lengths)))["rows"]
    ours, eager = [], []
    for _ in range(args.rounds):
        ours.append(measure_ours(args, model))
        eager.append(measure_eager(args, model, lengths, [rows]))
    assert ours[0]["input_tokens"] == eager[0]["input_tokens"]
    a, b = best(ours), best(eager)
    a["packed_tokens"] = ours[0]["packed_tokens"]
    b.update(libraries_mib=eager[0]["libraries_mib"], rows=rows)
    return {"lengths": args.lengths, "input_tokens": ours[0]["input_tokens"], "ours": a, "eager": b,
            "speed_ratio": a["tokens_per_second"] / b["tokens_per_second"],
            "memory_ratio": a["peak_memory_mib"] / b["peak_memory_mib"],
            "model_flop_share": max(r["model_flop_share"] for r in ours)}


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
    parser.add_argument("--lengths", choices=["equal", "ragged"], default="equal")
    parser.add_argument("--share-prompts", choices=["true", "false"], default="true")
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
            r = results[name] = compare(args, model)
            print(f"{name}, {args.lengths}: ours {r['ours']['tokens_per_second']:.0f} tokens/s "
                  f"({r['input_tokens']} a step, {r['ours']['packed_tokens']} of them packed), "
                  f"{r['ours']['peak_memory_mib']:.0f} MiB; "
                  f"eager {r['eager']['tokens_per_second']:.0f} tokens/s ({r['eager']['rows']} rows a microbatch), "
                  f"{r['eager']['peak_memory_mib']:.0f} MiB; {r['speed_ratio']:.2f} times as fast, "
                  f"{r['memory_ratio']:.2f} of the memory", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
