"""The examples, as their readers run them. Those that train are labelled `long`."""
import json
import os
import pathlib
import statistics
import subprocess
import sys

from harness import SOURCE, Run, TestCase, main, tramontane


class Examples(TestCase):
    def make_data(self, example, *arguments, python=sys.executable):
        done = subprocess.run([python, SOURCE / "examples" / example / "make_data.py", self.folder / "data",
                               *map(str, arguments)], check=False, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def options(self):
        data = self.folder / "data"
        return ["run.name=test", f"data.train={data}/train.jsonl", f"data.eval={data}/eval.jsonl",
                f"sft.data={data}/sft.jsonl"]

    def train(self, example, timeout):
        """Runs the example to its end: (held-out accuracy before and after, the mean reward of each
        step)."""
        os.chdir(SOURCE)  # the configuration names its tokenizer from there
        with Run(SOURCE / "examples" / example / "config.yaml", *self.options(), "run.stop_seconds=1200",
                 "--output", self.folder / "runs") as run:
            self.assertEqual(run.finish(timeout), 0, run.story())
            lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
        accuracy = [line["accuracy"] for line in lines if line["event"] == "eval"]
        rewards = [line["reward_mean"] for line in lines if line["event"] == "step"]
        print(f"{example}: held-out accuracy {accuracy[0]:.3f} -> {accuracy[-1]:.3f}, reward "
              f"{statistics.mean(rewards[:5]):.3f} -> {statistics.mean(rewards[-5:]):.3f} "
              f"in {len(rewards)} steps")
        return accuracy[0], accuracy[-1], rewards

    def test_every_row_of_the_code_example_can_be_judged(self):
        self.make_data("code", "--train", 60, "--eval", 10, "--sft", 20)
        status, out, err = tramontane("validate", SOURCE / "examples/code/config.yaml", *self.options(),
                                      cwd=SOURCE)
        self.assertEqual(status, 0, out + err)
        self.make_data("code", "--train", 60, "--eval", 10, "--sft", 20)  # the same bytes again
        for name in ("train", "eval"):
            rows = [json.loads(line) for line in (self.folder / f"data/{name}.jsonl").read_text().splitlines()]
            self.assertEqual(len({row["prompt"] for row in rows}), len(rows))
            for row in rows:
                tests = json.loads(row["answer"])["tests"]
                self.assertEqual([len(test["args"]) for test in tests], [1, 1])

    def test_the_code_example_learns(self):
        self.make_data("code")
        before, after, rewards = self.train("code", timeout=2400)
        self.assertGreater(after, before + 0.1)
        self.assertGreater(statistics.mean(rewards[-5:]), statistics.mean(rewards[:5]) + 0.1)

    def test_the_reasoning_gym_example_learns(self):
        requirements = SOURCE / "examples/reasoning_gym/requirements.txt"
        made = subprocess.run([SOURCE / "deps/make-python-verifier.sh", requirements], check=False,
                              capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest("reasoning-gym cannot be installed here: " + made.stderr[-300:])
        self.make_data("reasoning_gym", python=pathlib.Path(made.stdout.strip()) / "bin/python")
        before, after, rewards = self.train("reasoning_gym", timeout=2400)
        self.assertGreater(after, before + 0.05)
        self.assertGreater(statistics.mean(rewards[-5:]), statistics.mean(rewards[:5]) + 0.05)


if __name__ == "__main__":
    main()
