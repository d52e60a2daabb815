"""Whole runs of recipes: presets on a tiny model, schedules, KL from a reference that survives a stop."""
import json
import signal

from harness import Run, TestCase, main, tramontane

SMALL = {"rollout": {"samples_per_group": 4, "max_new_tokens": 24},
         "trainer": {"groups_per_step": 4, "max_staleness_versions": 2, "warmup_steps": 0},
         "generator": {"kv_blocks": 512}, "algorithm": {"filter": {"zero_variance": "keep"}}, "schedules": {}}


class Recipes(TestCase):
    def setUp(self):
        super().setUp()
        self.make_tasks(sft=8)

    def finished(self, run, steps, timeout=120):
        self.assertEqual(run.finish(timeout), 0, run.story())
        self.assertEqual(run.steps()[-1], steps, run.story())
        return [event for event in run.events if event.get("event") == "step"]

    def run_recipe(self, preset, changes=None, steps=2):
        """Two steps of it; the events of both. `files`: what its last checkpoint holds."""
        last, changes = steps, SMALL | {"preset": preset, "run": {"name": preset, "max_steps": 2}} | (changes or {})
        with Run(self.write_config(changes)) as run:
            steps = self.finished(run, last)
            resolved = json.loads((run.run_dir / "configs/config.json").read_text())
            self.files = {str(f.relative_to(run.run_dir)) for f in run.run_dir.glob("checkpoints/step_2/*/*")}
            self.run_dir = run.run_dir
        self.assertEqual(resolved["preset"], preset)
        self.assertEqual(len(steps), last)
        return steps

    def test_a_group_mean_runs(self):
        self.run_recipe("magistral_small")

    def test_mirror_descent_runs(self):
        self.run_recipe("kimi_k15")

    def test_likelihood_with_kl_runs(self):
        self.run_recipe("raft", {"reward": {"format": 0.1, "correct": 0.9}})

    def test_an_adaptive_entropy_bonus_runs(self):
        self.assertEqual(self.run_recipe("skywork_or1")[0]["policy"]["entropy_coefficient"], 0)

    def test_a_batch_wide_cispo_runs(self):
        self.run_recipe("scalerl")

    def test_a_critic_runs(self):
        steps = self.run_recipe("orz")
        self.assertGreater(steps[1]["policy"]["critic_updates"], 1)
        self.assertEqual([step["skipped"] for step in steps], [False, False])
        self.assertIn("checkpoints/step_2/critic/value_head.safetensors", self.files)

    def test_a_critic_that_is_pretrained_runs(self):
        steps = self.run_recipe("vapo", {"critic": {"pretrain_steps": 1}})
        self.assertGreater(steps[1]["policy"]["critic_updates"], 1)
        self.assertEqual([step["skipped"] for step in steps], [True, False])
        self.assertIn("checkpoints/step_2/critic/value_head.safetensors", self.files)

    def test_lengths_batches_and_temperature_follow_their_schedule(self):
        schedules = {"rollout.max_new_tokens": {"steps": [1, 4], "values": [3, 9]},
                     "trainer.groups_per_step": {"steps": [1, 5], "values": [4, 2]},
                     "rollout.temperature": {"steps": [1, 4], "values": [1.0, 0.8]}}
        with Run(self.write_config({"schedules": schedules, "run": {"max_steps": 9}})) as run:
            steps = self.finished(run, 9)
        lengths = {}
        for step in steps:
            rows = (run.run_dir / f"rollouts/step_{step['step']}/train.jsonl").read_bytes().splitlines()
            lengths[step["step"]] = [len(json.loads(row)["tokens"]) for row in rows]
            # Trained at the temperature it was drawn at: both sides agree.
            self.assertLess(step["logprob_gap_max"], 1e-3)
        self.assertLessEqual(max(lengths[1] + lengths[2] + lengths[3]), 3)
        self.assertEqual(max(lengths[8] + lengths[9]), 9)
        self.assertEqual([step["groups_trained"] for step in steps], [4] * 4 + [2] * 5)

    def test_reward_weights_follow_their_schedule_and_are_scored_again_as_they_were(self):
        reward = {"gate": False, "terms": {"unfinished": {"length": -1, "repetition": -1}}}
        schedules = {"reward.terms.unfinished.weight": {"steps": [1, 6], "values": [0, 2]}}
        changes = {"reward": reward, "schedules": schedules, "run": {"max_steps": 9},
                   "trainer": {"max_staleness_versions": 1}}
        with Run(self.write_config(changes)) as run:
            steps = self.finished(run, 9)
            status, out, err = tramontane("reverify", run.run_dir, "--verifier", "math", "--json")
        for step in steps:
            for line in (run.run_dir / f"rollouts/step_{step['step']}/train.jsonl").read_bytes().splitlines():
                row = json.loads(line)
                weight = row["reward_weights"]["unfinished"]
                self.assertEqual(weight, 0 if row["issued_version"] + 1 < 6 else 2)
                self.assertEqual(row["reward"], 0 if row["finish_reason"] == "stop" else -weight)
        self.assertEqual([steps[0]["reward_mean"], min(step["reward_mean"] for step in steps) < 0], [0, True])
        self.assertEqual(status, 0, out + err)
        self.assertEqual(json.loads(out)["differing"], 0, out)

    def test_segments_and_a_stop_for_repetition_hold_in_a_run(self):
        # An untrained model at a low temperature says the same again and again.
        changes = {"rollout": {"max_new_tokens": 96, "temperature": 0.05, "repetition_tokens": 24,
                               "repetition_times": 2, "segment_tokens": 8},
                   "reward": {"gate": False, "terms": {"unfinished": {}}},
                   "generator": {"max_running_sequences": 6},
                   "algorithm": {"filter": {"segment_max_age_versions": 0}}}
        with Run(self.write_config(changes)) as run:
            steps = self.finished(run, 6)
            rows = [json.loads(line) for file in run.run_dir.glob("rollouts/step_*/train.jsonl")
                    for line in file.read_bytes().splitlines()]
        stopped = [row for row in rows if row["finish_reason"] == "repetition"]
        self.assertTrue(stopped)
        self.assertEqual({row["reward"] for row in stopped}, {-1})
        for row in stopped:
            self.assertTrue(any(row["tokens"][-24:-period] == row["tokens"][-24 + period:] for period in range(1, 13)))
        self.assertGreater(max(step["repetition_share"] for step in steps), 0)
        for step in steps:  # cut into segments, and still the trainer's own numbers
            self.assertLess(step["logprob_gap_max"], 1e-3)

    def test_answers_are_corrected_in_a_second_layer(self):
        steps = self.run_recipe("mgrpo", {"rollout": SMALL["rollout"] | {"correction": {"samples": 2}},
                                          "run": {"name": "mgrpo", "max_steps": 3}}, steps=3)
        rows = [json.loads(line) for file in self.run_dir.glob("rollouts/step_*/train.jsonl")
                for line in file.read_bytes().splitlines()]
        groups = {}
        for row in rows:
            groups.setdefault(row["gid"], {})[row["sample_index"]] = row
        self.assertGreater(len(groups), 10)
        for group in groups.values():
            self.assertEqual(sorted(group), list(range(4 + 4 * 2)))
            for index, row in group.items():
                self.assertEqual(row["layer"], 1 if index < 4 else 2)
                if index < 4:
                    self.assertEqual(row["injected"], [])
                    continue
                answer = group[(index - 4) // 2]
                self.assertEqual(row["corrects"], answer["sample_index"])
                begin, given = row["injected"][0]
                # The whole answer, then a phrase, are context; what follows was sampled.
                self.assertEqual(begin, 0)
                self.assertEqual(row["tokens"][:len(answer["tokens"])], answer["tokens"])
                self.assertGreater(given, len(answer["tokens"]))
                self.assertTrue(all(p is None for p in row["logprobs"][:given]))
                self.assertTrue(all(p is not None for p in row["logprobs"][given:]))
        for step in steps:
            mine = [row for row in rows if row["step"] == step["step"] and row["fate"] == "trained"]
            self.assertEqual(step["response_tokens"],
                             sum(sum(p is not None for p in row["logprobs"]) for row in mine))
            self.assertEqual(step["policy"]["groups"], 4 * (1 + 4))  # layers are groups of their own
            # Of what was collected since the step before.
            self.assertEqual("accuracy_corrected" in step, step["samples_collected"] > 0)
            self.assertLess(step["logprob_gap_max"], 1e-3)

    def test_kl_from_a_reference_goes_on_after_a_stop(self):
        kl = {"kind": "k3", "coefficient": 0.01, "where": "loss", "reference": "initial"}
        # A model that earns nothing moves by its entropy bonus alone.
        config = self.write_config({"algorithm": {"kl": kl, "entropy": {"kind": "fixed", "coefficient": 1}},
                                    "trainer": {"learning_rate": 1e-2}, "run": {"max_steps": 100000}})
        with Run(config) as run:
            run.wait_for_step(5)
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.finish(60), 130, run.story())
            before = [event for event in run.events if event.get("event") == "step"]
        last = before[-1]["step"] + 5  # the stop came when it came
        with Run(run.run_dir, "--resume", f"run.max_steps={last}") as resumed:
            after = self.finished(resumed, last)
        self.assertLess(before[0]["policy"]["kl"], 1e-6)
        # A reference taken anew at the restart would be at distance 0 again.
        self.assertGreater(before[-1]["policy"]["kl"], 1e-5)
        self.assertGreater(after[0]["policy"]["kl"], 0.2 * before[-1]["policy"]["kl"])
        self.assertEqual(after[-1]["policy"]["reference_version"], 0)

    def test_adapters_go_on_after_a_stop_on_another_number_of_ranks(self):
        config = self.write_config({"algorithm": {"entropy": {"kind": "fixed", "coefficient": 1}},
                                    "lora": {"rank": 4}, "run": {"max_steps": 100000},
                                    "trainer": {"learning_rate": 1e-2, "activation_checkpointing": True}})
        with Run(config) as run:
            run.wait_for_step(4)
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.finish(60), 130, run.story())
            before = [event for event in run.events if event.get("event") == "step"]
        last = before[-1]["step"] + 2
        with Run(run.run_dir, "--resume", f"run.max_steps={last}", "trainer.ranks=2", "trainer.zero=2") as resumed:
            after = self.finished(resumed, last)
        step = run.run_dir / f"checkpoints/step_{last}"
        self.assertEqual(json.loads((step / "adapter/adapter_config.json").read_text())["r"], 4)
        self.assertTrue((step / "adapter/adapter_model.safetensors").stat().st_size > 0)
        # Generators sample from what is merged: they and the trainer agree before and after.
        for event in before + after:
            self.assertLess(event["logprob_gap_max"], 1e-3)
        self.assertGreater(after[-1]["policy"]["rank_bytes"], 0)
        self.assertGreater(after[-1]["policy"]["model_flop_share"], 0)


if __name__ == "__main__":
    main()
