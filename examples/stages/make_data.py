"""Data and a fresh model for the chains of this folder: additions of two numbers below 100.

    python examples/stages/make_data.py [FOLDER]        # default: runs/stages-data

    base/                 the model that every chain starts from, random weights
    train, eval.jsonl     prompts, gold answers
    thoughts.jsonl        worked solutions; half of them go over everything twice, some have a slip
    short.jsonl           the same worked out once
    fusion.jsonl          "…/think" with thoughts, "…/no_think" with an empty thought
    fusion_train.jsonl    prompts of both kinds, judged by pattern
    toggle.jsonl, toggle_train.jsonl   the same with a switch before the task, and no tags when off

TRAMONTANE names the program (default: ./tramontane). The same bytes at every call.
"""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MODEL = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 264, "hidden_size": 96,
         "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
         "head_dim": 32, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
         "eos_token_id": 258, "pad_token_id": 256,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}


def steps(a, b, rng, slip):
    """Digit by digit: "7+8+0=15;"; with chance `slip` a step is one off."""
    carry, parts, digits = 0, [], []
    while a or b or not parts:
        total = a % 10 + b % 10 + carry + (rng.random() < slip)
        parts.append(f"{a % 10}+{b % 10}+{carry}={total:02d};")
        digits.append(total % 10)
        carry, a, b = total // 10, a // 10, b // 10
    value = sum(digit * 10 ** i for i, digit in enumerate(digits)) + carry * 10 ** len(digits)
    return "".join(parts), value


def worked(a, b, rng, twice=0.0, slip=0.0, box=True):
    thoughts, value = steps(a, b, rng, slip)
    thoughts *= 2 if rng.random() < twice else 1
    return f"<think>{thoughts}</think>" + (f"\\boxed{{{value}}}" if box else str(value))


def pattern(value, thinks, empty_tags):
    """The whole completion: without a box, the regex verifier looks at all of it."""
    return ("(?s)<think>.+</think>" if thinks else "<think></think>" if empty_tags else "") + str(value)


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE / "runs/stages-data")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    pairs = [(a, b) for a in range(100) for b in range(100)]
    rng.shuffle(pairs)
    held_out, taught, prompts = pairs[:64], pairs[64:4064], pairs[4064:]
    math = lambda split, rows: [{"id": f"{split}-{i}", "prompt": f"{a}+{b}=", "answer": str(a + b),
                                 "verifier": "math", "params": {"form": "literal"}}
                                for i, (a, b) in enumerate(rows)]
    write(folder, "train.jsonl", math("train", prompts))
    write(folder, "eval.jsonl", math("eval", held_out))
    write(folder, "thoughts.jsonl", [{"prompt": f"{a}+{b}=", "completion": worked(a, b, rng, 0.5, 0.05)}
                                     for a, b in taught])
    write(folder, "short.jsonl", [{"prompt": f"{a}+{b}=", "completion": worked(a, b, rng, 0, 0.05)}
                                  for a, b in taught])
    both = [(a, b, on) for a, b in taught for on in (True, False)]
    write(folder, "fusion.jsonl", [
        {"prompt": f"{a}+{b}=" + ("/think" if on else "/no_think"),
         "completion": worked(a, b, rng, box=False) if on else f"<think></think>{a + b}"} for a, b, on in both])
    write(folder, "toggle.jsonl", [
        {"prompt": f"detailed thinking {'on' if on else 'off'}\n{a}+{b}=",
         "completion": worked(a, b, rng, box=False) if on else str(a + b)} for a, b, on in both])
    asked = [(a, b, on) for a, b in prompts for on in (True, False)]
    write(folder, "fusion_train.jsonl", [
        {"prompt": f"{a}+{b}=" + ("/think" if on else "/no_think"), "answer": pattern(a + b, on, True),
         "verifier": "regex"} for a, b, on in asked])
    write(folder, "toggle_train.jsonl", [
        {"prompt": f"detailed thinking {'on' if on else 'off'}\n{a}+{b}=", "answer": pattern(a + b, on, False),
         "verifier": "regex"} for a, b, on in asked])
    shutil.rmtree(folder / "base", ignore_errors=True)
    program = os.environ.get("TRAMONTANE", str(SOURCE / "tramontane"))
    subprocess.run([program, "init-model", "--out", str(folder / "base"), "--tokenizer",
                    str(SOURCE / "examples/demo/tokenizer"), "--json"], input=json.dumps(MODEL), text=True,
                   check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
