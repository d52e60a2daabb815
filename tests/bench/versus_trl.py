#!/usr/bin/env python3
"""Tramontane and TRL's GRPOTrainer side by side: same checkpoint, task, batch and machine.

    python tests/bench/versus_trl.py --checkpoint DIR [--steps 40] [--seed 0] [--only ours|trl]
    python tests/bench/versus_trl.py --checkpoint DIR --until 0.9 [--max-seconds 900]

DIR is a Hugging Face folder of a model that was cold-started on the demo's additions, whose answers
read `<think>…</think>\\boxed{n}` (`tramontane sft` on the demo's configuration makes one). Each
system trains for --steps steps of --prompts × --samples samples with both cores, one after the
other. Printed for each: generated tokens per second of wall time (training included, the first two
steps left out), seconds a step, and the mean sampled reward of the last ten steps. With --until both
train until that mean reaches a reward, and the seconds until then are printed, too; each may have its
own learning rate, for each is to be at its best. TRL needs a
Python with `trl`, `transformers` and `datasets`; where it is missing only ours is measured.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = SOURCE / "build/release/bin/tramontane"
ANSWER = re.compile(r"<think>[^<]*</think>\\boxed\{(\d+)\}")
WARM_STEPS = 2


def reward(completion, answer):
    """The demo's table: 0.1 for the form, 0.9 more for the right number."""
    match = ANSWER.fullmatch(completion.strip())
    return 0.0 if match is None else 0.1 + 0.9 * (match.group(1) == answer)


def make_data(folder, seed):
    subprocess.run([PROGRAM, "make-tasks", "--out", folder, "--kinds", "addition", "--train", "20000",
                    "--eval", "256", "--sft", "64", "--seed", str(seed)], check=True)


def rates(tokens, seconds, rewards, until):
    """`seconds_until`: of training, until the 10-step mean of the reward first reached `until`."""
    seconds_until = next((sum(seconds[:i]) for i in range(10, len(rewards) + 1)
                          if until and sum(rewards[i - 10:i]) / 10 >= until), None)
    tokens, seconds = tokens[WARM_STEPS:], seconds[WARM_STEPS:]
    return {"steps": len(seconds), "tokens_per_second_of_wall": sum(tokens) / sum(seconds),
            "seconds_per_step": sum(seconds) / len(seconds),
            "reward_last_10": sum(rewards[-10:]) / len(rewards[-10:]), "seconds_until": seconds_until}


def measure_ours(args, folder):
    config = {
        "run": {"name": "bench", "output_dir": str(folder / "runs"), "max_steps": args.steps, "seed": args.seed,
                "stop_reward": args.until, "stop_seconds": args.max_seconds},
        "model": {"path": str(args.checkpoint)},
        "data": {"train": str(folder / "train.jsonl")},
        "rollout": {"samples_per_group": args.samples, "max_new_tokens": 64},
        "trainer": {"groups_per_step": args.prompts, "learning_rate": args.learning_rate,
                    "checkpoint_interval_steps": 100000, "max_staleness_versions": 2},
        "redis": {"appendfsync": "everysec"},
    }
    path = folder / "ours.json"
    path.write_text(json.dumps(config))
    done = subprocess.run([PROGRAM, "run", path, "--json", *args.set], stdout=subprocess.PIPE, text=True,
                          check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    made = [line["generated_tokens"] for line in steps]
    result = rates([b - a for a, b in zip([0, *made], made)], [line["seconds"] for line in steps],
                   [line["reward_mean"] for line in steps], args.until)
    summary = next(line for line in lines if line["event"] == "summary")
    for key in ("staleness_mean", "logprob_gap_max", "trainer_busy_share", "generator_busy_share"):
        result[key] = summary.get(key)
    return result


def measure_trl(args, folder):
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(args.threads)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    tokens, rewards, seconds = [0], [], []

    def score(completions, completion_ids, answer, **_):
        tokens[-1] += sum(len(ids) for ids in completion_ids)
        values = [reward(text, gold) for text, gold in zip(completions, answer)]
        rewards.append(sum(values) / len(values))
        return values

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.begin = time.perf_counter()

        def on_step_end(self, _, __, control, **___):
            seconds.append(time.perf_counter() - self.begin)
            tokens.append(0)
            reached = args.until and len(rewards) >= 10 and sum(rewards[-10:]) / 10 >= args.until
            if reached or (args.max_seconds and sum(seconds) >= args.max_seconds):
                control.should_training_stop = True

    samples = args.prompts * args.samples
    config = GRPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, seed=args.seed, max_steps=args.trl_steps or args.steps,
        per_device_train_batch_size=samples // args.trl_microbatches,
        gradient_accumulation_steps=args.trl_microbatches, num_generations=args.samples, max_completion_length=64,
        temperature=1.0, beta=0.0, epsilon=0.2, epsilon_high=0.28, loss_type="dapo", scale_rewards="batch",
        learning_rate=args.trl_learning_rate or args.learning_rate, lr_scheduler_type=args.trl_schedule,
        warmup_steps=args.trl_warmup_steps, max_grad_norm=1.0,
        gradient_checkpointing=False, save_strategy="no", report_to="none", logging_steps=10**6, disable_tqdm=True,
        dataloader_pin_memory=False)
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32), reward_funcs=score,
        args=config, train_dataset=Dataset.from_list([{"prompt": r["prompt"], "answer": r["answer"]} for r in rows]),
        processing_class=AutoTokenizer.from_pretrained(args.checkpoint, padding_side="left"), callbacks=[Clock()])
    trainer.train()
    return rates(tokens[:len(seconds)], seconds, rewards, args.until)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, help="default: 40, or with --until as many as it takes")
    parser.add_argument("--until", type=float, default=0, metavar="REWARD")
    parser.add_argument("--max-seconds", type=float, default=0, help="of training, for each; 0: no bound")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--trl-learning-rate", type=float, help="default: the same")
    parser.add_argument("--trl-warmup-steps", type=int, default=0)
    parser.add_argument("--trl-schedule", choices=["constant", "constant_with_warmup", "linear"], default="constant",
                        help="linear falls to 0 at --trl-steps")
    parser.add_argument("--trl-steps", type=int, help="default: --steps")
    parser.add_argument("--trl-microbatches", type=int, default=1, help="of one step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=["ours", "trl"])
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override of our configuration")
    args = parser.parse_args()
    args.steps = args.steps or (100000 if args.until else 40)
    results = {}
    with tempfile.TemporaryDirectory(prefix="tramontane-bench-") as scratch:
        folder = pathlib.Path(scratch)
        make_data(folder, args.seed)
        if args.only != "trl":
            results["tramontane"] = measure_ours(args, folder)
            print(json.dumps({"tramontane": results["tramontane"]}), flush=True)
        if args.only != "ours":
            try:
                results["trl"] = measure_trl(args, folder)
                print(json.dumps({"trl": results["trl"]}), flush=True)
            except ImportError as missing:
                print(f"TRL is not measured: {missing}", file=sys.stderr)
    if len(results) == 2:
        ours, theirs = (results[name]["tokens_per_second_of_wall"] for name in ("tramontane", "trl"))
        print(json.dumps({"ratio": ours / theirs}))
        ours, theirs = (results[name]["seconds_until"] for name in ("tramontane", "trl"))
        if ours and theirs:
            print(json.dumps({"ratio_of_seconds_until": theirs / ours}))


if __name__ == "__main__":
    main()
