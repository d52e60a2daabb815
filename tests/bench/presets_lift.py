#!/usr/bin/env python3
"""Does every preset lift the reward of the small addition task above its SFT start?

    python tests/bench/presets_lift.py [--presets dapo raft …] [--seeds 5] [--seconds 110] [--enough 0.1]
        [--checkpoint DIR]

For each preset and seed: `tramontane run` with `preset: NAME`, from one cold-started checkpoint (made
by the SFT stage of examples/demo once, unless --checkpoint names one), for at most --seconds of the
RL stage. Compared are the mean sampled rewards of the first step, which the start's weights sampled,
and of the last ten steps; a run stops early once they are --enough apart. Exit status 1 unless every
run of every preset ends above its start.

A preset's knobs of `algorithm` stay as they are; what is scaled down to two cores and answers of
about 40 tokens is listed in SCALED and below it, and nothing else: batch, lengths, staleness, learning
rate, warm-up, intervals counted in steps, updates per step, the critic's learning rate and
pre-training, the constant of a constant denominator, and number and phrases of corrections.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = SOURCE / "build/release/bin/tramontane"
SAMPLES, GROUPS = 8, 32
SCALED = {
    "rollout": {"samples_per_group": SAMPLES, "max_new_tokens": 64},
    "trainer": {"groups_per_step": GROUPS, "updates_per_step": 1, "max_staleness_versions": 1, "learning_rate": 2e-4, "warmup_steps": 10,
                "weight_decay": 0, "adam_beta2": 0.99, "optimiser_reset_interval_steps": 0, "threads": 2,
                "microbatch_tokens": 1024, "eval_interval_steps": 0, "checkpoint_interval_steps": 100000},
    "generator": {"max_running_sequences": 128, "kv_blocks": 2048},
    "reward": {"length_penalty": 0, "length_max_tokens": 0, "length_cache_tokens": 0, "require_think": True},
    "redis": {"appendfsync": "everysec"},
    "schedules": {},
}
CRITIC = {"orz": {"learning_rate": 5e-4, "warmup_steps": 0, "steps_per_rollout": 4},
          "vapo": {"learning_rate": 5e-4, "steps_per_rollout": 4, "pretrain_steps": 10}}
# Corrections and phrases that a short context has room for.
CORRECTION = {"mgrpo": {"samples": 2, "phrases": ["\nAgain: ", "\nOnce more: "]}}
# Constant denominators stand for the tokens of a long-context batch; here for those of ours.
CONSTANT = {"cwm": SAMPLES * GROUPS * 40}


def tramontane(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments), "--json"], stdout=subprocess.PIPE, text=True, check=False,
                          cwd=SOURCE)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        raise RuntimeError(f"tramontane {arguments[0]} failed: {events[-1:] or done.stdout[-300:]}")
    return events


def make_data(folder):
    tramontane("make-tasks", "--out", folder, "--kinds", "addition", "--train", 20000, "--eval", 64, "--sft", 20000,
               "--seed", 1)


def cold_start(folder):
    events = tramontane("sft", "examples/demo/config.yaml", f"data.train={folder}/train.jsonl",
                        f"data.eval={folder}/eval.jsonl", f"sft.data={folder}/sft.jsonl",
                        f"run.output_dir={folder}/runs", "run.name=start")
    return pathlib.Path(events[0]["run_dir"]) / "sft/hf"


def config_of(preset, seed, seconds, checkpoint, folder):
    config = json.loads(json.dumps(SCALED)) | {
        "preset": preset, "model": {"path": str(checkpoint)}, "data": {"train": f"{folder}/train.jsonl"},
        "run": {"name": f"{preset}-{seed}", "output_dir": f"{folder}/runs", "seed": seed, "max_steps": 100000,
                "stop_seconds": seconds}}
    if preset in CRITIC:
        config["critic"] = CRITIC[preset]
    if preset in CORRECTION:
        config["rollout"]["correction"] = CORRECTION[preset]
    if preset in CONSTANT:
        config["algorithm"] = {"aggregation": {"constant": CONSTANT[preset]}}
    return config


def last_ten(steps):
    return sum(step["reward_mean"] for step in steps[-10:]) / 10


def steps_of(config, enough):
    """The step events of a run, which is asked to stop once its reward has risen by `enough`."""
    run = subprocess.Popen([PROGRAM, "run", str(config), "--json"], stdout=subprocess.PIPE, text=True, cwd=SOURCE)
    steps, stopped = [], False
    for line in run.stdout:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") != "step" or stopped:
            continue
        steps.append(event)
        stopped = len(steps) > 10 and last_ten(steps) >= steps[0]["reward_mean"] + enough
        if stopped:
            run.terminate()
    if run.wait() != 0 and not stopped:
        raise RuntimeError(f"tramontane run {config} ended with {run.returncode}")
    return steps


def lift(preset, seed, args, checkpoint, folder):
    path = folder / f"{preset}-{seed}.json"
    path.write_text(json.dumps(config_of(preset, seed, args.seconds, checkpoint, folder)))
    began = time.monotonic()
    steps = steps_of(path, args.enough)
    if len(steps) < 11:
        raise RuntimeError(f"{preset}, seed {seed}: {len(steps)} steps in {args.seconds} s are too few to judge")
    return {"preset": preset, "seed": seed, "steps": len(steps), "seconds": round(time.monotonic() - began, 1),
            "start": steps[0]["reward_mean"], "end": last_ten(steps), "kl": steps[-1].get("policy", {}).get("kl")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.stem for path in (SOURCE / "presets").glob("*.yaml") if path.stem != "opd")  # has a teacher
    parser.add_argument("--presets", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--enough", type=float, default=0.1)
    parser.add_argument("--checkpoint", type=pathlib.Path)
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tramontane-presets-") as scratch:
        folder = pathlib.Path(scratch)
        make_data(folder)
        checkpoint = args.checkpoint or cold_start(folder)
        for preset in args.presets:
            for seed in range(args.seeds):
                result = lift(preset, seed, args, checkpoint, folder)
                result["lifted"] = result["end"] > result["start"]
                failed += not result["lifted"]
                print(json.dumps(result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
