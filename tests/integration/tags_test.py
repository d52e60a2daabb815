"""Difficulty tags from outside: what AdaCtrl's rewards teach a model to do behind each of them."""
import json
import random
import statistics
import subprocess

from harness import BIN, TINY_MODEL, TOKENIZER, Run, TestCase, main, merged, tramontane

MODEL = merged(TINY_MODEL, {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32})
EASY, HARD = TAGS = "[Easy]", "[Hard]"


def tasks():
    """(prompt, what its rows have for gold answers): the first digit of the easy; and of the hard one of
    three that follow from the second, nobody can know which."""
    for a in range(10):
        for b in range(10):
            yield f"{a}<{b}=", (a, a, a)
            yield f"{a}?{b}=", (b, (b + 1) % 10, (b + 2) % 10)


class Tags(TestCase):
    """AdaCtrl, arXiv 2505.18822 §2: a supervised cold start teaches the tags, RL what they are good for."""

    def write_rows(self, name, rows):
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def cold_rows(self):
        """Answers whose tag says something of the task and of the length: an easy one is worked out once,
        or as often as not three times; a hard one three times."""
        rng = random.Random(1)
        for prompt, answers in tasks():
            for _ in range(20):
                tag = EASY if rng.random() < (0.7 if "<" in prompt else 0.3) else HARD
                times = 1 if rng.random() < (0.6 if tag == EASY else 0.1) else 3
                right = rng.random() < 0.95
                value = rng.choice([digit for digit in range(10) if (digit in answers) == right])
                yield {"prompt": prompt, "completion":
                       f"{tag}<think>{f'{prompt}{value};' * times}</think>\\boxed{{{value}}}"}

    def base_model(self):
        base = self.folder / "base"
        done = subprocess.run([BIN / "tramontane", "init-model", "--out", base, "--tokenizer", TOKENIZER, "--json"],
                              input=json.dumps(MODEL), text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # One budget for both, which nothing reaches: a forced tag changes what the model has learnt to change.
        generation = base / "generation_config.json"
        published = json.loads(generation.read_text())
        generation.write_text(json.dumps(published | {"thinking": {"tags": {tag: 40 for tag in TAGS}}}))
        return str(base)

    def train(self):
        """The preset in small, behind its cold start: the models of both stages."""
        prompts = [{"prompt": prompt, "answer": str(answer), "params": {"form": "literal"}}
                   for prompt, answers in tasks() for answer in answers]
        rows = list(self.cold_rows())
        random.Random(2).shuffle(rows)
        config = {
            "preset": "adactrl", "model": {"path": self.base_model()},
            "run": {"name": "tags", "output_dir": str(self.folder / "runs"), "max_steps": 40},
            "data": {"train": self.write_rows("train", prompts)},
            "sft": {"steps": 600, "examples_per_step": 32, "learning_rate": 3e-3, "warmup_steps": 20},
            "rollout": {"max_new_tokens": 64},
            "reward": {"terms": {"soft_overlong": {"max_tokens": 64, "cache_tokens": 8}}},
            "trainer": {"groups_per_step": 16, "updates_per_step": 1, "max_staleness_versions": 1,
                        "learning_rate": 5e-4, "warmup_steps": 4, "weight_decay": 0, "adam_beta2": 0.99,
                        "threads": 1, "eval_interval_steps": 0, "checkpoint_interval_steps": 1000},
            "generator": {"max_running_sequences": 128, "kv_blocks": 1024},
            "redis": {"appendfsync": "everysec"},
            "stages": [{"name": "cold", "kind": "sft", "data": [self.write_rows("cold", rows)]},
                       {"name": "rl", "kind": "rl"}]}
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(config))
        with Run(path) as run:
            self.assertEqual(run.finish(240), 0, run.story())
        summary = json.loads((run.run_dir / "summary.json").read_text())
        return {stage["name"]: stage["model"] for stage in summary["stages"]}

    def sampled(self, model, tag=None):
        """Two samples a task, with the tag put in front or without: [(task, rollout)]."""
        asked = list(tasks())
        request = {"prompts": [prompt for prompt, _ in asked], "max_new_tokens": 64, "temperature": 1, "n": 2,
                   "seed": 3, "thinking": {"tag": tag, "on_exhaust": "cwm"} if tag else None}
        status, out, err = tramontane("generate", "--model", model, "--json", stdin=json.dumps(request), timeout=120)
        self.assertEqual(status, 0, err)
        return [(asked[rollout["prompt_index"]], rollout) for rollout in json.loads(out)["rollouts"]]

    def measured(self, model):
        """Mean tokens of thought behind each forced tag; of the easy and of the hard tasks the share that the
        model by itself calls easy; and the share of the easy that it has right."""
        thoughts = {}
        for tag in TAGS:
            rollouts = [rollout for _, rollout in self.sampled(model, tag)]
            self.assertTrue(all(rollout["text"].startswith(tag) for rollout in rollouts))
            self.assertEqual({len(rollout["injected"]) for rollout in rollouts}, {1})  # the tag: no thought was cut
            thoughts[tag] = statistics.mean(rollout["usage"]["thinking"] for rollout in rollouts)
        called, right = {"<": [], "?": []}, []
        for (prompt, answers), rollout in self.sampled(model):
            called[prompt[1]].append(rollout["text"].startswith(EASY))
            if "<" in prompt:
                right.append(rollout["text"].endswith(f"\\boxed{{{answers[0]}}}"))
        easy, hard = map(statistics.mean, (called["<"], called["?"]))
        print(f"thoughts of {thoughts[EASY]:.1f} tokens behind {EASY}, {thoughts[HARD]:.1f} behind {HARD}; called "
              f"easy: {easy:.2f} of the easy, {hard:.2f} of the hard; right: {statistics.mean(right):.3f}")
        return thoughts, easy, hard, statistics.mean(right)

    def test_a_forced_tag_changes_lengths_after_adactrl(self):
        models = self.train()
        (before, easy_before, hard_before, right_before), (after, easy, hard, right) = (
            self.measured(models[stage]) for stage in ("cold", "rl"))
        # The tag decides on the length, and does so more than where it was only imitated.
        self.assertGreater(after[HARD], 1.5 * after[EASY])
        self.assertGreater(after[HARD] / after[EASY], 1.1 * before[HARD] / before[EASY])
        # Right answers that are called easy were paid by their shortness.
        self.assertLess(after[EASY], 0.9 * before[EASY])
        # Tags were paid by the groups' difficulty.
        self.assertGreater(easy, easy_before + 0.1)
        self.assertLess(hard, hard_before - 0.1)
        self.assertGreater(right, right_before - 0.02)


if __name__ == "__main__":
    main()
