"""Data for the code example: small programs asked for in words, and a careless teacher's answers.

    python3 examples/code/make_data.py runs/code-data

Writes train.jsonl and eval.jsonl (prompts, and as answer the tests that the verifier `code` runs) and
sft.jsonl for the cold start. The teacher knows the language and is careless: now and then it subtracts
the wrong way round or leaves a step out, and more often than not it halves with `/` and counts one
turn too few. So the model after the cold start is mostly wrong about the latter, whatever is drawn.
Standard library only; the same options give the same bytes.
"""
import argparse
import json
import os
import random
from pathlib import Path

SLIP, HABIT = 0.2, 0.65  # chances of a mistake: of any, and of one that has become a habit
INPUTS = ((3, 8), (7, -4), (9, 2), (5, -6), (11, 4))  # one odd, one even: branches are both tried


def draw_step(rng):
    """(what is asked for, the right line, careless lines, how often they are written)"""
    kind, n = rng.choice(("add", "take", "times", "halve", "from")), rng.randint(2, 7)
    return {
        "add": (f"add {n}", f"x+={n}", ("pass",), SLIP),
        "take": (f"take {n}", f"x-={n}", (f"x={n}-x", "pass"), SLIP),
        "times": (f"times {n}", f"x*={n}", (f"x+={n}", f"x**={n}"), SLIP),
        "halve": ("halve", "x//=2", ("x/=2",), HABIT),
        "from": (f"from {n}", f"x={n}-x", (f"x-={n}",), SLIP),
    }[kind]


def written(step, rng):
    """The line of a step as the teacher writes it."""
    _, right, wrong, chance = step
    return rng.choice(wrong) if rng.random() < chance else right


def draw_task(rng):
    """(prompt, lines of the right program, lines of the teacher's); lines without the function."""
    kind = rng.choice(("steps", "branch", "loop"))
    first, second = draw_step(rng), draw_step(rng)
    if kind == "steps":
        return (f"{first[0]}, {second[0]}", [first[1], second[1]],
                [written(first, rng), written(second, rng)])
    if kind == "branch":
        def branch(one, other, test="x%2"):
            return [f"if {test}:", " " + one, "else:", " " + other]

        test = "x%2==0" if rng.random() < SLIP else "x%2"
        return (f"odd: {first[0]}, even: {second[0]}", branch(first[1], second[1]),
                branch(written(first, rng), written(second, rng), test))
    turns = rng.randint(2, 4)

    def loop(one, other, count):
        return [f"for i in range({count}):", " " + one, " " + other]

    count = turns - 1 if rng.random() < HABIT else turns
    return (f"{turns} turns: {first[0]}, {second[0]}", loop(first[1], second[1], turns),
            loop(written(first, rng), written(second, rng), count))


def program(lines):
    return "def f(x):\n" + "".join(f" {line}\n" for line in lines) + " return x\n"


def run(source, value):
    scope = {}
    exec(source, scope)  # our own text, made above
    return scope["f"](value)


def tests(lines, rng):
    source = program(lines)
    return json.dumps({"function": "f", "tests": [
        {"args": [value], "expected": run(source, value)} for value in rng.choice(INPUTS)]})


def tasks(count, rng, taken):
    """`count` tasks whose prompts are not in `taken`, which grows by them."""
    for _ in range(count):
        prompt, right, careless = draw_task(rng)
        while prompt in taken:
            prompt, right, careless = draw_task(rng)
        taken.add(prompt)
        yield prompt, right, careless


def write(path, rows):
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--eval", type=int, default=64)
    parser.add_argument("--sft", type=int, default=8000, help="examples; prompts may come again")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    held_out = set()

    def rows(count, taken):
        return [{"prompt": prompt, "answer": tests(right, rng), "verifier": "code",
                 "params": {"language": "python", "scoring": "fraction", "time_limit_s": 1}}
                for prompt, right, _ in tasks(count, rng, taken)]

    def sft_rows(count):
        while count > 0:
            prompt, _, careless = draw_task(rng)
            if prompt not in held_out:
                count -= 1
                yield {"prompt": prompt, "completion": f"```python\n{program(careless)}```"}

    write(args.folder / "eval.jsonl", rows(args.eval, held_out))
    write(args.folder / "train.jsonl", rows(args.train, set(held_out)))
    write(args.folder / "sft.jsonl", sft_rows(args.sft))
    print(f"{args.folder}: {args.train} train, {args.eval} eval, {args.sft} sft rows")


if __name__ == "__main__":
    main()
