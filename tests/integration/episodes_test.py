"""Multi-turn training from outside: a tiny job whose reward needs a second turn, its masks to the
token, and an environment that goes away and comes back."""
import json
import subprocess
import time

from harness import TOKENIZER, Run, TestCase, main, tramontane
from verifiers_test import python

WORLD = '''
from tramontane_verifier.environment import Step, environment

@environment(name="second", version="1.2.3")
class Second:
    """Nothing is earned before the second turn."""

    def reset(self, row):
        self.turns = 0
        return "G" if row["params"]["kind"] == "addition" else "?"

    def step(self, action):
        self.turns += 1
        if self.turns < 2:
            return Step("mo!", feedback="go on")
        reward = float(sum(map(ord, action)) % 3 == 0)
        return Step(reward=reward, done=True, correct=reward > 0, metrics={"letters": len(action)})
'''


class World:
    """`tramontane verifier environment` on an address that stays when it is started again."""

    def __init__(self, file, bind="127.0.0.1:0"):
        self.file = file
        self.start(bind)

    def start(self, bind):
        self.process = subprocess.Popen([python(), "-m", "tramontane_verifier", "environment", self.file,
                                         "--bind", bind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        self.address = json.loads(self.process.stdout.readline())["address"]

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Episodes(TestCase):
    def setUp(self):
        super().setUp()
        self.make_tasks()
        self.file = self.folder / "second.py"
        self.file.write_text(WORLD)

    def config(self, episode=None, **entry):
        """Rows name no verifier: the configuration's judges them."""
        for file in (self.folder / "data").glob("*.jsonl"):
            file.write_text(file.read_text().replace('"verifier":"math",', ""))
        episode = {"max_turn_tokens": 9, "before_observation": "<", "after_observation": ">", **(episode or {})}
        return self.write_config({"rollout": {"max_new_tokens": 30}, "data": {"verifier": "world"},
                                  "verifiers": {"math": {"builtin": "math"},
                                                "world": {"params": {"episode": episode}, **entry}}})

    def rollouts(self, run_dir):
        files = sorted(run_dir.glob("rollouts/step_*/train.jsonl"), key=lambda f: int(f.parent.name[5:]))
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]

    def test_a_job_whose_reward_needs_a_second_turn(self):
        command = [str(python()), "-m", "tramontane_verifier", "environment", str(self.file), "--bind",
                   "127.0.0.1:{port}"]
        with Run(self.config(command=command)) as run:
            self.assertEqual(run.finish(180), 0, run.story())
        status, out, err = tramontane("tokenize", "--model", TOKENIZER, "--json",
                                      stdin=json.dumps({"texts": ["G", "<mo!>"]}))
        self.assertEqual(status, 0, err)
        observations = json.loads(out)["ids"]
        rollouts = self.rollouts(run.run_dir)
        self.assertGreaterEqual(len(rollouts), 6 * 16)
        self.assertEqual({r["reward"] for r in rollouts}, {0.0, 1.0})
        for rollout in rollouts:
            self.assertEqual(rollout["verdict"]["verifier"], "second")
            self.assertEqual(rollout["verdict"]["metrics"]["turns"], 2)
            tokens, seen = rollout["tokens"], [False] * len(rollout["tokens"])
            said = [tokens[begin:begin + count] for begin, count in rollout["injected"]]
            self.assertEqual(said, observations)
            for begin, count in rollout["injected"]:
                seen[begin:begin + count] = [True] * count
            for injected, logprob in zip(seen, rollout["logprobs"]):
                self.assertEqual(injected, logprob is None)
            self.assertEqual(rollout["usage"]["injected"], 6)
            self.assertEqual(rollout["usage"]["thinking"] + rollout["usage"]["answer"], len(tokens) - 6)
            self.assertEqual(sum(count for _, count in rollout["versions"]), len(tokens))
        # The trainer scores what was sampled as the generator did, with the observations as context.
        steps = [event for event in run.events if event.get("event") == "step"]
        self.assertEqual(len(steps), 6)
        for step in steps:
            self.assertLess(step["logprob_gap_max"], 1e-3)

    def test_an_environment_that_went_away_is_waited_for_and_costs_its_episodes_alone(self):
        with World(self.file) as world, Run(self.config(address=world.address, max_attempts=1)) as run:
            run.wait_for_step(1)
            world.kill()
            time.sleep(1)
            world.start(world.address)
            self.assertEqual(run.finish(180), 0, run.story())
        self.assertEqual(max(run.steps()), 6)
        for rollout in self.rollouts(run.run_dir):
            self.assertIsNotNone(rollout["reward"])

    def test_the_judge_sees_the_whole_episode(self):
        with World(self.file) as world, Run(self.config({"judge": "math"}, address=world.address)) as run:
            self.assertEqual(run.finish(180), 0, run.story())
        for rollout in self.rollouts(run.run_dir):
            self.assertEqual(rollout["verdict"]["verifier"], "math")
            self.assertEqual(len(rollout["injected"]), 2)

    def test_the_code_world_models_preset_learns_from_turns(self):
        (self.folder / "second.py").write_text(WORLD.replace("% 3 == 0", "% 2 == 0"))
        command = [str(python()), "-m", "tramontane_verifier", "environment", str(self.file), "--bind",
                   "127.0.0.1:{port}"]
        config = self.config(command=command)
        with Run(config, "preset=cwm", "algorithm.filter.accept_low=null", "algorithm.filter.accept_high=null",
                 "rollout.samples_per_group=8", "trainer.learning_rate=1e-3", "schedules={}") as run:
            self.assertEqual(run.finish(180), 0, run.story())
        rollouts = [r for r in self.rollouts(run.run_dir) if r["fate"] == "trained"]
        self.assertTrue(all(r["usage"]["injected"] == 6 for r in rollouts))
        steps = [event for event in run.events if event.get("event") == "step"]
        self.assertEqual(len(steps), 6)
        for step in steps:
            mine = [r for r in rollouts if r["step"] == step["step"]]
            # Observations are context: the tokens that the trainer counts are those that were sampled.
            self.assertEqual(step["response_tokens"], sum(len(r["tokens"]) - 6 for r in mine))
            self.assertFalse(step["skipped"])
            self.assertGreater(step["grad_norm"], 0)
            self.assertLess(step["logprob_gap_max"], 1e-3)

    def test_an_environment_that_cannot_work_is_refused_before_anything_starts(self):
        config = self.config({"max_turns": 0}, command=["never", "started"])
        status, out, err = tramontane("run", config, "--json")
        self.assertEqual(status, 1, out + err)
        self.assertIn("verifiers.world: params.episode.max_turns", json.loads(out)["error"]["message"])
        self.assertFalse((self.folder / "runs").exists())


if __name__ == "__main__":
    main()
