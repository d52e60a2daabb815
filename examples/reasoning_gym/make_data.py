"""Data for the reasoning-gym example: prompts with their entries, and a careless teacher's answers.

    PY=$(deps/make-python-verifier.sh examples/reasoning_gym/requirements.txt)/bin/python
    $PY examples/reasoning_gym/make_data.py runs/reasoning-gym-data

Writes train.jsonl and eval.jsonl (rows for the verifier: the whole entry goes into params, since
score_answer wants it) and sft.jsonl for the cold start. The teacher thinks in the right shape and
slips in one step of four, so that there is something left to learn.
"""
import argparse
import json
import os
import random
from pathlib import Path

import reasoning_gym

# Small enough for the demo's 128-wide model; no prompt is in two files.
TASKS = {
    "chain_sum": dict(min_terms=2, max_terms=3, min_digits=1, max_digits=2),
    "spell_backward": dict(min_word_len=3, max_word_len=6),
}
SLIP = 0.25


def think_chain_sum(entry, rng):
    """Running totals, each off by one now and then."""
    words = entry["metadata"]["expression"].split()
    total, steps = int(words[0]), []
    for sign, term in zip(words[1::2], words[2::2]):
        before = total
        total = total + int(term) if sign == "+" else total - int(term)
        if rng.random() < SLIP:
            total += rng.choice((-1, 1, 10))
        steps.append(f"{before}{sign}{term}={total}")
    return ";".join(steps), str(total)


def think_spell_backward(entry, rng):
    """Letter by letter from the end; a letter is forgotten now and then."""
    letters = [c for c in reversed(entry["metadata"]["word"]) if rng.random() >= SLIP / 4]
    return " ".join(letters), "".join(letters)


TEACHERS = {"chain_sum": think_chain_sum, "spell_backward": think_spell_backward}


def entries(count, seed):
    """`count` entries with distinct questions, the tasks in turn."""
    seen, found = set(), []
    datasets = [
        iter(reasoning_gym.create_dataset(name, size=count * 4, seed=seed, **settings))
        for name, settings in TASKS.items()
    ]
    while len(found) < count:
        for dataset in datasets:
            entry = next(e for e in dataset if e["question"] not in seen)
            seen.add(entry["question"])
            found.append(entry)
    return found[:count]


def row(entry):
    return {
        "prompt": entry["question"],
        "answer": entry["answer"],
        "verifier": "reasoning_gym",
        "params": {"entry": entry, "kind": entry["metadata"]["source_dataset"]},
    }


def sft_row(entry, rng):
    thoughts, answer = TEACHERS[entry["metadata"]["source_dataset"]](entry, rng)
    return {
        "prompt": entry["question"],
        "completion": f"<think>{thoughts}</think>\\boxed{{{answer}}}",
    }


def write(path, rows):
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--eval", type=int, default=100)
    parser.add_argument("--sft", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found = entries(args.train + args.eval + args.sft, args.seed)
    held_out, train = found[: args.eval], found[args.eval : args.eval + args.train]
    rng = random.Random(args.seed)
    write(args.folder / "eval.jsonl", map(row, held_out))
    write(args.folder / "train.jsonl", map(row, train))
    write(args.folder / "sft.jsonl", (sft_row(e, rng) for e in found[args.eval + args.train :]))
    print(f"{args.folder}: {args.train} train, {args.eval} eval, {args.sft} sft rows")


if __name__ == "__main__":
    main()
