#!/usr/bin/env python3
"""The demo on several seeds, each from nothing: SFT by the careless teacher, then RL.

    python tests/bench/demo_seeds.py [--seeds 0 1 2 3 4] [--json FILE] [a.b=c …]

Needs a built release and the demo's data (`./tramontane demo` makes both). Runs examples/demo once a
seed, one after the other, and prints for each: held-out greedy accuracy after SFT and at the end, the
mean sampled reward of the last ten steps, generated tokens per second of wall time, and how busy the
trainer and the generator were. Exit status 1 unless every seed starts between 20% and 50%, ends at
97% or above, and each side is busy at least 70% of the time that the busier one is.
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


def run(seed, folder, overrides):
    begin = time.monotonic()
    done = subprocess.run([PROGRAM, "run", "examples/demo/config.yaml", "--json", f"run.seed={seed}",
                           f"run.name=seed-{seed}", f"run.output_dir={folder}", *overrides],
                          cwd=SOURCE, stdout=subprocess.PIPE, text=True, check=True)
    summary = next(event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "summary")
    return {"seed": seed, "minutes": (time.monotonic() - begin) / 60, **summary}


def fits(row):
    busy = sorted([row["trainer_busy_share"], row["generator_busy_share"]])
    return (0.2 <= row["accuracy_before"] <= 0.5 and row["accuracy_after"] >= 0.97
            and busy[0] >= 0.7 * busy[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--json", type=pathlib.Path, help="write the summaries here, too")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="tramontane-demo-") as folder:
        for seed in args.seeds:
            row = run(seed, folder, args.overrides)
            rows.append(row)
            print(f"seed {seed}: held-out {row['accuracy_before']:.3f} -> {row['accuracy_after']:.3f}, "
                  f"reward of the last 10 steps {row['reward_last_10']:.3f}, "
                  f"{row['tokens_per_second']:.0f} tok/s, busy: trainer {row['trainer_busy_share']:.2f}, "
                  f"generator {row['generator_busy_share']:.2f}, {row['minutes']:.1f} min", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    good = sum(map(fits, rows))
    print(f"{good} of {len(rows)} seeds")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
