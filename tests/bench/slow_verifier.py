#!/usr/bin/env python3
"""What a verifier that sleeps costs: the same short job with and without it, one after the other.

    python3 tests/bench/slow_verifier.py [--seconds 40] [--rounds 2] [--sleep-s 10] [--share 0.01]

A Python verifier sleeps on a share of the samples (10 s on one in a hundred). The jobs take turns
(without, with, with, without, …), so that what else the machine does meets both. Measured between the
sixth step and the last: optimiser steps, samples trained on and tokens generated a second. Wants a
machine with nothing else to do. Prints one JSON document.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from harness import SOURCE, TINY_MODEL, TOKENIZER, Run, merged, tramontane  # noqa: E402

VERIFIER = '''
import time

from tramontane_verifier import verifier


@verifier(name="digits", version="1.0.0", timeout_s=60)
def digits(completion, seed):
    if seed % 10000 < {share} * 10000:  # the seed is a hash of the request
        time.sleep({sleep_s})
    return sum(c.isdigit() for c in completion) / max(1, len(completion))
'''
WARM_UP_STEPS = 5


def config(folder, args, verifier, python):
    model = merged(TINY_MODEL, {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
                                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32})
    return {
        "run": {"name": verifier.stem, "output_dir": str(folder / "runs"), "max_steps": 100000,
                "stop_seconds": args.seconds},
        "model": {"init": model, "init_tokenizer": str(TOKENIZER)},
        "data": {"train": str(folder / "data/train.jsonl"), "eval": str(folder / "data/eval.jsonl"),
                 "verifier": "digits"},
        "rollout": {"samples_per_group": 8, "max_new_tokens": 64},
        # Nothing is filtered: every group that is in time counts.
        "algorithm": {"filter": {"zero_variance": "keep"}},
        "trainer": {"groups_per_step": 16, "max_staleness_versions": args.staleness, "learning_rate": 1e-5,
                    "eval_interval_steps": 0, "checkpoint_interval_steps": 100000},
        "generator": {"max_running_sequences": 128, "kv_blocks": 2048},
        "verifiers": {"digits": {"command": [python, "-m", "tramontane_verifier", "serve", str(verifier),
                                             "--workers", "1", "--bind", "127.0.0.1:{port}"]}},
    }


def rates(folder, args, verifier, python):
    path = folder / f"{verifier.stem}.json"
    path.write_text(json.dumps(config(folder, args, verifier, python)))
    with Run(path, "--clean") as run:
        status = run.finish(args.seconds + 120)
        if status != 0:
            raise SystemExit(run.story())
        lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    first, last = steps[WARM_UP_STEPS], steps[-1]
    between = steps[WARM_UP_STEPS + 1:]
    seconds = last["elapsed_s"] - first["elapsed_s"]
    return {"steps": len(between) / seconds,
            "trained_samples": sum(8 * step["groups_trained"] for step in between) / seconds,
            "generated_tokens": (last["generated_tokens"] - first["generated_tokens"]) / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40, help="of one job")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sleep-s", type=float, default=10)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--staleness", type=int, default=4, help="trainer.max_staleness_versions")
    args = parser.parse_args()
    made = subprocess.run([SOURCE / "deps/make-python-verifier.sh"], check=True, capture_output=True, text=True)
    python = made.stdout.strip() + "/bin/python3"
    results = {"quick": [], "sleeper": []}
    with tempfile.TemporaryDirectory(prefix="tramontane-bench-") as name:
        folder = pathlib.Path(name)
        status, out, err = tramontane("make-tasks", "--out", folder / "data", "--kinds", "addition", "--train",
                                      5000, "--eval", 8, "--sft", 1)
        if status != 0:
            raise SystemExit(out + err)
        for file in (folder / "data").glob("*.jsonl"):
            file.write_text(file.read_text().replace('"verifier":"math",', ""))
        for which, share in (("quick", 0), ("sleeper", args.share)):
            (folder / f"{which}.py").write_text(VERIFIER.format(share=share, sleep_s=args.sleep_s))
        for turn in range(args.rounds):
            for which in ("quick", "sleeper") if turn % 2 == 0 else ("sleeper", "quick"):
                started = time.monotonic()
                results[which].append(rates(folder, args, folder / f"{which}.py", python))
                print(which, json.dumps(results[which][-1]), f"{time.monotonic() - started:.0f} s",
                      file=sys.stderr, flush=True)
    medians = {which: {key: statistics.median(r[key] for r in all_of) for key in all_of[0]}
               for which, all_of in results.items()}
    ratio = {key: medians["sleeper"][key] / medians["quick"][key] for key in medians["quick"]}
    print(json.dumps({"options": vars(args), "medians": medians, "sleeper_over_quick": ratio}, indent=1))


if __name__ == "__main__":
    main()
