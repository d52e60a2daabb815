"""Whole runs on a tiny model: the loop closes, and goes on when parts of it are killed."""
import collections
import json
import os
import pathlib
import random
import signal
import time

from harness import Run, SmallDisk, TestCase, main, tramontane


class Runs(TestCase):
    def setUp(self):
        super().setUp()
        self.make_tasks()

    def check_lineage(self, run_dir, steps):
        """The journal is sound, reaches the last step, and has no group twice."""
        status, out, err = tramontane("doctor", run_dir, "--json")
        self.assertEqual(status, 0, out + err)
        batches = {}
        for line in (run_dir / "journal.jsonl").read_bytes().splitlines():
            record = json.loads(line)
            record = record.get("record", record)
            if record["kind"] == "rollback":
                batches = {step: gids for step, gids in batches.items() if step <= record["step"]}
            if record["kind"] == "batch":
                batches[record["step"]] = record["gids"]
        self.assertEqual(sorted(batches), list(range(1, steps + 1)))
        trained = collections.Counter(gid for gids in batches.values() for gid in gids)
        self.assertEqual([gid for gid, times in trained.items() if times > 1], [])

    def assert_finished(self, run, steps, timeout=120):
        status = run.finish(timeout)
        self.assertEqual(status, 0, run.story())
        self.assertEqual(max(run.steps()), steps, run.story())
        self.check_lineage(run.run_dir, steps)


class WholeRun(Runs):
    def test_sft_then_rl_through_all_services(self):
        config = self.write_config({"sft": {"data": str(self.folder / "data/sft.jsonl"), "steps": 5,
                                            "examples_per_step": 8, "warmup_steps": 1}})
        with Run(config) as run:
            run.wait_for_step(1)
            status, out, err = tramontane("status", run.run_dir, "--json")
            self.assertEqual(status, 0, err)
            processes = {process["name"]: process for process in json.loads(out)["processes"]}
            self.assertEqual(set(processes), {"redis", "verifier-math", "trainer", "generator-0"})
            for name, process in processes.items():
                self.assertTrue(process["alive"], name)
            self.assertTrue(processes["trainer"]["answers"], processes["trainer"])
            for state in ("waiting", "leased", "completed", "dead"):
                self.assertIsInstance(json.loads(out)["queue"][state], int)
            self.assert_finished(run, 6)
            summary = run.wait_for(lambda e: e.get("event") == "summary", 1)
        self.check_what_is_left(run, summary)

    def check_what_is_left(self, run, summary):
        for key in ("accuracy_before", "accuracy_after", "reward_last_10", "tokens_per_second",
                    "weight_versions", "staleness_mean", "logprob_gap_max"):
            self.assertIsInstance(summary[key], (int, float), key)
        self.assertLessEqual(summary["logprob_gap_max"], 1e-4)
        self.assertLessEqual(summary["staleness_mean"], 2)
        self.assertIn("<svg", pathlib.Path(summary["picture"]).read_text())
        exported = run.run_dir / "checkpoints/step_6/hf"
        status, out, err = tramontane("score", "--model", exported, "--json", stdin='{"tokens": [[1, 2, 3]]}')
        self.assertEqual(status, 0, out + err)
        self.assertTrue(list(run.run_dir.glob("rollouts/step_*/train.jsonl")))
        status, out, _ = tramontane("status", run.run_dir, "--json")
        self.assertEqual(status, 0)
        self.assertFalse(json.loads(out)["supervised"])

    def test_a_mixture_of_experts_replays_its_routes(self):
        config = self.write_config({
            "run": {"max_steps": 4}, "trainer": {"router_replay": True},
            "model": {"init": {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
                               "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                               "norm_topk_prob": True, "mlp_only_layers": [0]}}})
        with Run(config) as run:
            self.assert_finished(run, 4)
            summary = run.wait_for(lambda e: e.get("event") == "summary", 1)
        self.assertLessEqual(summary["logprob_gap_max"], 1e-4)
        shares = [step["policy"]["router_disagreement"] for step in self.steps_of(run)]
        self.assertEqual(len(shares), 4)  # routes went all the way
        self.assertTrue(all(0 <= share < 0.5 for share in shares), shares)

    def test_replaying_the_routes_of_a_dense_model_is_refused(self):
        with Run(self.write_config({"trainer": {"router_replay": True}})) as run:
            self.assertNotEqual(run.finish(60), 0)
            self.assertIn("trainer.router_replay", run.story())
            self.assertIn("has no experts", run.story())

    def steps_of(self, run):
        lines = (run.run_dir / "metrics.jsonl").read_bytes().splitlines()
        return [line for line in map(json.loads, lines) if "policy" in line]

    def test_a_head_learns_along_and_guesses_ahead(self):
        config = self.write_config({
            "run": {"max_steps": 4}, "trainer": {"mtp_weight": 0.2}, "generator": {"mtp_draft": True},
            "model": {"init": {"architectures": ["MiMoForCausalLM"], "model_type": "mimo",
                               "num_nextn_predict_layers": 1}}})
        with Run(config) as run:
            self.assert_finished(run, 4)
            summary = run.wait_for(lambda e: e.get("event") == "summary", 1)
        self.assertLessEqual(summary["logprob_gap_max"], 1e-4)
        self.assertTrue(all(step["policy"]["mtp_loss"] > 0 for step in self.steps_of(run)))

    def test_two_generators_share_the_work(self):
        config = self.write_config({"run": {"max_steps": 100000}, "generator": {"count": 2, "claim_groups": 1}})
        workers, seen, deadline = set(), set(), time.monotonic() + 150
        with Run(config) as run:
            run.wait_for_step(1)
            while workers != {"generator-0", "generator-1"}:  # one may load long after the other
                self.assertLess(time.monotonic(), deadline, f"only {workers}:\n" + run.story())
                for file in set(run.run_dir.glob("rollouts/step_*/train.jsonl")) - seen:
                    lines = file.read_text().splitlines(keepends=True)
                    if lines and lines[-1].endswith("\n"):  # else it is still being written
                        workers |= {json.loads(line)["generator"] for line in lines}
                        seen.add(file)
                time.sleep(0.1)
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.finish(90), 130, run.story())
            self.check_lineage(run.run_dir, max(run.steps()))

    def test_interrupt_writes_a_checkpoint_and_resume_goes_on(self):
        config = self.write_config({"run": {"max_steps": 40}, "trainer": {"checkpoint_interval_steps": 100}})
        with Run(config) as run:
            run.wait_for_step(4)
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.finish(90), 130, run.story())
            done, run_dir = max(run.steps()), run.run_dir
        self.assertTrue(list(run_dir.glob("checkpoints/step_*/manifest.json")))
        with Run(run_dir, "--resume", "run.max_steps=44") as again:
            first = again.wait_for_step(1)
            self.assertGreaterEqual(first["step"], done)
            self.assert_finished(again, 44)

    def test_children_do_not_outlive_a_killed_supervisor(self):
        with Run(self.write_config({"run": {"max_steps": 1000}})) as run:
            run.wait_for_step(1)
            pids = [run.pid_of(name) for name in ("trainer", "generator-0", "verifier-math", "redis")]
            run.process.kill()
            run.process.wait(10)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and any(alive(pid) for pid in pids):
                time.sleep(0.2)
            self.assertEqual([pid for pid in pids if alive(pid)], [])


def ranks_of(trainer):
    """The processes that the trainer started."""
    children = pathlib.Path(f"/proc/{trainer}/task/{trainer}/children").read_text().split()
    return [int(pid) for pid in children]


def alive(pid):
    try:
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


class Faults(Runs):
    """Each kills or stops one process in mid-run; the run must reach its last step all the same."""

    STEPS = 30

    def run_with(self, disturb, changes=None, timeout=150):
        config = self.write_config({"run": {"max_steps": self.STEPS}, **(changes or {})})
        with Run(config) as run:
            run.wait_for_step(4)
            disturb(run)
            self.assert_finished(run, self.STEPS, timeout)
            return run

    def assert_restarted(self, run, name):
        run.wait_for(lambda e: e.get("event") == "note" and name in e["text"] and "restart" in e["text"], 1)

    def test_killed_generator(self):
        self.assert_restarted(self.run_with(lambda run: run.kill("generator-0")), "generator-0")

    def test_killed_verifier(self):
        run = self.run_with(lambda run: run.kill("verifier-math"))
        self.assert_restarted(run, "verifier-math")
        statuses = {json.loads(line)["verdict"]["status"]
                    for file in run.run_dir.glob("rollouts/step_*/train.jsonl")
                    for line in file.read_bytes().splitlines()}
        self.assertEqual(statuses, {"scored"}, "a dead verifier must not leave verdicts of its own")

    def test_killed_trainer(self):
        run = self.run_with(lambda run: run.kill("trainer"))
        self.assert_restarted(run, "trainer")
        run.wait_for(lambda e: e.get("event") == "resumed", 1)

    def test_killed_rank(self):
        """The trainer says which rank it has lost, starts again with new ones and goes on."""
        def kill_rank(run):
            run.rank = ranks_of(run.pid_of("trainer"))[0]
            os.kill(run.rank, signal.SIGKILL)
        changes = {"trainer": {"ranks": 2, "zero": 1, "checkpoint_interval_steps": 3}}
        run = self.run_with(kill_rank, changes)
        self.assert_restarted(run, "trainer")
        run.wait_for(lambda e: e.get("event") == "resumed", 1)
        logs = "".join(log.read_text() for log in run.run_dir.glob("logs/*/trainer.log"))
        self.assertIn("rank 1 is gone", logs)
        self.assertFalse(alive(run.rank))

    def test_killed_redis(self):
        self.assert_restarted(self.run_with(lambda run: run.kill("redis")), "redis")

    def test_stopped_redis_for_20_seconds(self):
        def stop(run):
            run.signal("redis", signal.SIGSTOP)
            time.sleep(20)
            stopped_at = max(run.steps())
            run.signal("redis", signal.SIGCONT)
            self.assertLess(stopped_at, self.STEPS, "the run ended before Redis was back")
            run.wait_for(lambda e: e.get("event") == "waiting" and e["waiting_for"].startswith("redis"), 1)
        run = self.run_with(stop)
        # The engines stood still for most of the time between the first step and the last.
        share = run.wait_for(lambda e: e.get("event") == "summary", 1)["generator_busy_share"]
        self.assertTrue(0 < share < 0.7, share)

    def test_killed_trainer_and_resume_by_hand(self):
        config = self.write_config({"run": {"max_steps": self.STEPS}})
        with Run(config) as run:
            run.wait_for_step(5)
            run.process.kill()
            run.process.wait(10)
            run_dir = run.run_dir
        deadline = time.monotonic() + 60  # the children leave their folder first
        while time.monotonic() < deadline:
            status, _, _ = tramontane("status", run_dir, "--json")
            if status == 0 and not any(p["alive"] for p in json.loads(
                    tramontane("status", run_dir, "--json")[1])["processes"]):
                break
            time.sleep(0.5)
        with Run(run_dir, "--resume") as again:
            self.assert_finished(again, self.STEPS)


class FullDisk(Runs):
    """A run on a disk that fills up: one error that names the file, nothing half-written, and with
    room again it goes on."""

    def setUp(self):
        super().setUp()
        self.disk = SmallDisk(self, self.folder / "runs", 3 << 10)

    def assert_ended_whole(self, run, run_dir):
        self.assertEqual(run.finish(120), 1, run.story())
        error = run.error()
        self.assertEqual(error["code"], "RESOURCE_EXHAUSTED", error)
        self.assertIn(str(run_dir), error["message"])
        self.assertIn("disk full", error["message"])
        self.assertNotIn("\n", error["message"])
        left = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*")]
        self.assertEqual([path for path in left if ".tmp" in path or ".saving" in path or ".room" in path], [])
        for file in [run_dir / "metrics.jsonl", *run_dir.glob("rollouts/step_*/*.jsonl")]:
            if file.exists():
                for line in file.read_bytes().splitlines():
                    json.loads(line)
        for checkpoint in run_dir.glob("checkpoints/step_*"):
            self.assertTrue((checkpoint / "manifest.json").exists(), checkpoint)

    def test_a_run_fills_its_disk_and_goes_on_when_there_is_room(self):
        with Run(self.write_config({"run": {"max_steps": 5000}})) as run:
            run.wait_for_step(1)
            run_dir = run.run_dir
            self.assert_ended_whole(run, run_dir)
            done = max(run.steps())
        self.disk.resize(128 << 10)
        with Run(run_dir, "--resume", f"run.max_steps={done + 5}") as again:
            self.assert_finished(again, done + 5)

    def test_a_cold_start_that_cannot_be_saved(self):
        config = self.write_config({"run": {"max_steps": 2}, "sft": {
            "data": str(self.folder / "data/sft.jsonl"), "steps": 30, "examples_per_step": 8, "warmup_steps": 1}})
        with Run(config) as run:
            run.wait_for(lambda e: e.get("event") == "sft_step", 60)
            run_dir = run.run_dir
            self.disk.fill()
            self.assert_ended_whole(run, run_dir)
        self.assertFalse((run_dir / "sft/hf").exists())
        self.disk.make_room()
        with Run(run_dir, "--resume") as again:
            self.assert_finished(again, 2)


class Storm(Runs):
    """Long: random kills of everything for minutes."""

    def test_random_kills(self):
        steps, rng = 400, random.Random(7)
        with Run(self.write_config({"run": {"max_steps": steps}})) as run:
            run.wait_for_step(2)
            deadline = time.monotonic() + 240
            while time.monotonic() < deadline and run.process.poll() is None and max(run.steps()) < steps - 20:
                run.kill(rng.choice(["generator-0", "verifier-math", "redis", "trainer"]))
                time.sleep(rng.uniform(5, 15))
            self.assert_finished(run, steps, timeout=400)


if __name__ == "__main__":
    main()
