"""Chains of stages from outside: what each leaves, what a kill in the middle of each costs, what is refused."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from harness import BIN, SOURCE, TINY_MODEL, TOKENIZER, Run, TestCase, main, merged, tramontane

# Scores whatever a model says by its length, too: rejection sampling has something to compare.
LENIENT = {"reward": {"gate": False, "terms": {"accuracy": {"right": 1, "wrong": 0.5},
                                               "length": {"term": "soft_overlong", "max_tokens": 24,
                                                          "cache_tokens": 23}}}}
QUICK = {"sft": {"steps": 120, "examples_per_step": 8, "learning_rate": 5e-3}}  # until it ends its answers


def read_lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_bytes().splitlines()]


class Stages(TestCase):
    def setUp(self):
        super().setUp()
        self.make_tasks(train=40, evaluation=4)
        self.base = self.folder / "base"
        done = subprocess.run([BIN / "tramontane", "init-model", "--out", self.base, "--tokenizer", TOKENIZER,
                               "--json"], input=json.dumps(TINY_MODEL), text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def chain(self, stages, **changes):
        config = merged(merged(LENIENT, {
            "sft": {"steps": 6, "examples_per_step": 4, "warmup_steps": 1},
            "trainer": {"checkpoint_interval_steps": 2, "eval_interval_steps": 0},
            "run": {"max_steps": 2}, "stages": stages}), changes)
        path = self.write_config(config)
        whole = json.loads(path.read_text()) | {"model": {"path": str(self.base)}}
        path.write_text(json.dumps(whole))
        return path

    @property
    def rows(self):
        """Short answers of one to six digits: what learns them ends its answers."""
        path = self.folder / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"{i}+{i}=", "completion": str(7 ** i)[:1 + i % 6]}) + "\n"
                                for i in range(60)))
        return str(path)

    def outputs(self, run_dir):
        outputs = {}
        for path in sorted(run_dir.glob("stages/*/output.json")):
            outputs[path.parent.name.removeprefix("test-")] = json.loads(path.read_text())
        return outputs

    def weights(self, model):
        return (pathlib.Path(model) / "model.safetensors").read_bytes()

    def finish(self, run, timeout=240):
        self.assertEqual(run.finish(timeout), 0, run.story())
        return self.outputs(run.run_dir)


class EveryKind(Stages):
    def test_each_kind_takes_from_the_one_before(self):
        config = self.chain([
            {"name": "cold", "kind": "sft", "data": [self.rows], "set": QUICK},
            {"name": "rl", "kind": "rl"},
            {"name": "rows", "kind": "reject_sample", "set": {"reject": {"keep": "best", "max_per_prompt": 2}}},
            {"name": "again", "kind": "sft", "from": "base", "data": ["rows", self.rows]},
            {"name": "pairs", "kind": "reject_sample", "from": "rl", "set": {"reject": {"keep": "pairs_best_worst"}}},
            {"name": "dpo", "kind": "dpo", "from": "rl", "data": ["pairs"], "set": {"sft": {"learning_rate": 1e-5}}},
            {"name": "both", "kind": "merge", "models": ["again", "dpo"]},
            {"name": "student", "kind": "distill", "from": "base", "models": ["both"], "data": [self.rows]},
            {"name": "opd", "kind": "distill", "models": ["both"], "set": {
                "preset": "opd", "run": {"max_steps": 2}, "rollout": {"max_new_tokens": 24},
                "trainer": {"groups_per_step": 4}}},
        ])
        with Run(config) as run:
            outputs = self.finish(run)
        self.assertEqual(list(outputs), sorted(["cold", "rl", "rows", "again", "pairs", "dpo", "both", "student",
                                                "opd"]))
        self.assertEqual((outputs["rl"]["reason"], outputs["rl"]["step"]), ("max_steps", 2))
        rows = read_lines(outputs["rows"]["rows"])
        per_prompt = {}
        for row in rows:
            per_prompt[row["id"]] = per_prompt.get(row["id"], 0) + 1
        self.assertLessEqual(max(per_prompt.values()), 2)
        self.assertGreater(len(per_prompt), 20)
        pairs = read_lines(outputs["pairs"]["rows"])
        self.assertTrue(all(pair["chosen_tokens"] != pair["rejected_tokens"] for pair in pairs))
        # `again` learnt both files' rows, from base.
        again = json.loads((run.run_dir / "stages/test-again/configs/config.json").read_text())
        self.assertEqual(again["model"]["path"], str(self.base))
        joined = pathlib.Path(again["sft"]["data"]).read_text()
        self.assertTrue(joined.startswith(pathlib.Path(outputs["rows"]["rows"]).read_text()))
        self.assertIn(pathlib.Path(self.rows).read_text(), joined)
        self.assertEqual(len({self.weights(output["model"]) for output in outputs.values() if "model" in output}), 7)
        started = [event["stage"] for event in run.events
                   if event.get("event") == "stage" and event["state"] == "started"]
        self.assertEqual(started, ["cold", "rl", "rows", "again", "pairs", "dpo", "both", "student", "opd"])

        status, out, err = tramontane("status", run.run_dir, "--json")
        self.assertEqual(status, 0, out + err)
        answer = json.loads(out)
        self.assertEqual({stage["state"] for stage in answer["stages"]}, {"done"})
        self.assertIsNone(answer["stage"])
        # Nothing is left to do, and nothing is done.
        with Run(run.run_dir, "--resume") as resumed:
            self.assertEqual(self.finish(resumed), outputs)
        self.assertFalse([event for event in resumed.events if event.get("event") == "stage"])


class Exits(Stages):
    def test_a_cold_start_ends_by_its_held_out_loss_and_stored_rollouts_become_pairs(self):
        rows = read_lines(self.rows)
        held_out = self.folder / "held_out.jsonl"
        held_out.write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
        early = {"sft": QUICK["sft"] | {"steps": 400, "eval_data": str(held_out), "eval_interval_steps": 10,
                                        "stop_loss": 2.0}}
        stale = {"sft": {"steps": 400, "learning_rate": 0.3, "eval_data": str(held_out), "eval_interval_steps": 4,
                         "stop_stale_evaluations": 2}}
        config = self.chain([
            {"name": "cold", "kind": "sft", "data": [self.rows], "set": early},
            {"name": "wild", "kind": "sft", "from": "base", "data": [self.rows], "set": stale},
            {"name": "rl", "kind": "rl", "from": "cold", "set": {"run": {"max_steps": 4}}},
            {"name": "dpo", "kind": "dpo", "from": "rl", "data": ["rl"],
             "set": {"reject": {"keep": "pairs_best_worst", "last_steps": 3},
                     "sft": {"steps": 4, "learning_rate": 1e-5}}},
            {"name": "again", "kind": "sft", "from": "base", "data": ["rl"],
             "set": {"reject": {"keep": "best"}, "sft": {"steps": 3}}},
        ])
        with Run(config) as run:
            outputs = self.finish(run)
        events = {"cold": [], "wild": []}
        stage = None
        for event in run.events:
            stage = event["stage"] if event.get("event") == "stage" else stage
            if event.get("event") == "sft_eval":
                events[stage].append(event)
        cold, wild = events["cold"], events["wild"]
        self.assertEqual((outputs["cold"]["reason"], outputs["cold"]["step"]), ("stop_loss", cold[-1]["step"]))
        self.assertLess(cold[-1]["step"], 400)
        self.assertLessEqual(cold[-1]["loss"], 2.0)
        self.assertTrue(all(event["loss"] > 2.0 for event in cold[:-1]))
        self.assertEqual(outputs["wild"]["reason"], "stop_stale_evaluations")
        self.assertEqual((wild[-1]["stale_evaluations"], wild[-1]["step"]), (2, outputs["wild"]["step"]))
        # The pairs are of what the RL stage stored in its last three steps.
        stored = {(row["prompt"], *row["tokens"]): row for step in (2, 3, 4) for row in
                  read_lines(run.run_dir / f"stages/test-rl/rollouts/step_{step}/train.jsonl")}
        pairs = read_lines(run.run_dir / "stages/test-dpo.input/rl.jsonl")
        self.assertTrue(pairs)
        for pair in pairs:
            chosen, rejected = (stored[(pair["prompt"], *pair[which + "_tokens"])] for which in ("chosen", "rejected"))
            self.assertGreater(chosen["reward"], rejected["reward"])
            self.assertEqual(chosen["prompt_tokens"], pair["prompt_tokens"])
        self.assertEqual(outputs["dpo"]["step"], 4)
        self.assertTrue(all("completion_tokens" in row for row in
                            read_lines(run.run_dir / "stages/test-again.input/rl.jsonl")))

        summary = self.ask("summary", run.run_dir)
        self.assertEqual([stage["name"] for stage in summary["stages"]], ["cold", "wild", "rl", "dpo", "again"])
        self.assertEqual(summary["stages"][2]["summary"]["steps"], 4)
        picture = self.ask("plot", run.run_dir)["picture"]
        self.assertIn("rl</text>", pathlib.Path(picture).read_text().replace("</tspan>", ""))
        report = self.ask("reverify", run.run_dir, "--verifier", "math")
        self.assertEqual((report["differing"], [stage["stage"] for stage in report["stages"]]), (0, ["rl"]))
        self.assertGreater(report["samples"], 0)
        self.assert_error(["reverify", run.run_dir, "--verifier", "math", "--stage", "none"], "no stage 'none'")

    def ask(self, *arguments):
        status, out, err = tramontane(*arguments, "--json")
        self.assertEqual(status, 0, out + err)
        return json.loads(out)


class Killing(Stages):
    def kill_and_resume(self, config, fits, look=lambda run: None):
        run = Run(config)
        try:
            run.wait_for(fits, 120)
            look(run)
            run_dir = run.run_dir
        finally:
            run.process.kill()
            run.__exit__()
        self.await_quiet(run_dir)
        with Run(run_dir, "--resume") as resumed:
            outputs = self.finish(resumed)
        return outputs, resumed

    def await_quiet(self, run_dir):
        """The children of a killed supervisor end by themselves."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            listed = subprocess.run(["pgrep", "-f", str(run_dir)], stdout=subprocess.PIPE, text=True,
                                    check=False).stdout.split()
            if not listed:
                return
            time.sleep(0.2)
        self.fail("processes of the killed run are still there")


class Kills(Killing):
    """kill -9 of the whole program in the middle of each kind; the result is that of a run without."""

    def test_supervised_stages_go_on_bit_for_bit(self):
        stages = [{"name": "sft", "kind": "sft", "data": [self.rows], "set": {"sft": {"steps": 200}}},
                  {"name": "kd", "kind": "distill", "data": [self.rows], "models": ["sft"], "from": "base",
                   "set": {"sft": {"steps": 200}}}]
        with Run(self.chain(stages, run={"name": "whole"})) as whole:
            self.finish(whole)
        expected = {path.parents[2].name.removeprefix("whole-"): path.read_bytes()
                    for path in whole.run_dir.glob("stages/*/*/hf/model.safetensors")}
        self.assertEqual(set(expected), {"sft", "kd"})

        def in_the_middle(kind):
            return lambda e: e.get("event") == "sft_step" and e["kind"] == kind and e["step"] >= 7

        def look(run):
            _, out, _ = tramontane("status", run.run_dir, "--json")
            self.seen = json.loads(out)

        for kind, stage in (("sft", "sft"), ("distill", "kd")):
            outputs, resumed = self.kill_and_resume(self.chain(stages, run={"name": f"killed-{stage}"}),
                                                    in_the_middle(kind), look)
            self.assertEqual(self.seen["stage"], stage)
            current = [s for s in self.seen["stages"] if s["name"] == stage][0]
            self.assertEqual((current["state"], current["steps"]), ("started", 200))
            going_on = [e for e in resumed.events if e.get("event") == "resumed"]
            self.assertGreaterEqual(going_on[0]["step"], 6, resumed.story())
            for name, output in outputs.items():
                self.assertEqual(self.weights(output["model"]), expected[name.removeprefix(f"killed-{stage}-")])

    def test_rejection_sampling_and_rl_go_on(self):
        stages = [{"name": "cold", "kind": "sft", "data": [self.rows], "set": QUICK},
                  {"name": "rows", "kind": "reject_sample", "set": {"reject": {"keep": "best"}}},
                  {"name": "rl", "kind": "rl", "set": {"run": {"max_steps": 12}}}]
        seen = lambda stage: lambda e: e.get("event") == "step" and e["step"] >= 4 and e["max_steps"] == stage
        outputs, _ = self.kill_and_resume(self.chain(stages), seen(10))  # 40 prompts, 4 a step
        rows = [row["id"] for row in read_lines(outputs["rows"]["rows"])]
        self.assertEqual(len(rows), len(set(rows)))
        self.assertEqual((outputs["rows"]["step"], outputs["rl"]["step"]), (10, 12))
        outputs, _ = self.kill_and_resume(self.chain(stages, run={"name": "again"}), seen(12))
        self.assertEqual(outputs["again-rl"]["step"], 12)

    def test_a_stop_is_no_end(self):
        stages = [{"name": "sft", "kind": "sft", "data": [self.rows], "set": {"sft": {"steps": 3000}}}]
        with Run(self.chain(stages)) as run:
            run.wait_for(lambda e: e.get("event") == "sft_step" and e["step"] >= 3, 60)
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.finish(60), 130, run.story())
        self.assertEqual(self.outputs(run.run_dir), {})
        with Run(run.run_dir, "--resume") as resumed:
            event = resumed.wait_for(lambda e: e.get("event") == "resumed", 60)
            self.assertGreaterEqual(event["step"], 3)


class Lengths(Killing):
    """A length predictor beside a model that thinks."""

    @property
    def thoughts(self):
        path = self.folder / "thoughts.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": f"<think>{'so '* (1 + i % 5)}\n</think>"
                                            f"{i + 1}"}) + "\n" for i in range(40)) +
                        json.dumps({"prompt": "2+2=", "completion": "4"}) + "\n")
        return str(path)

    def ask(self, model, **thinking):
        request = {"prompts": ["1+1=<think>"], "max_new_tokens": 48, "seed": 3,
                   "thinking": {"budget": 8, "on_exhaust": "cwm", "reserve": 8, "guidance": True, **thinking}}
        return ["generate", "--model", model], json.dumps(request)

    def test_its_training_goes_on_bit_for_bit_and_it_guides(self):
        stages = [{"name": "cold", "kind": "sft", "data": [self.thoughts]},
                  {"name": "lengths", "kind": "length_predictor", "data": [self.thoughts],
                   "set": {"sft": {"steps": 200}}}]
        with Run(self.chain(stages, run={"name": "whole"})) as whole:
            whole_outputs = self.finish(whole)
        self.assertEqual(list(whole_outputs), ["whole-cold", "whole-lengths"])
        steps = [e for e in whole.events if e.get("event") == "sft_step" and e["kind"] == "length_predictor"]
        self.assertLess(steps[-1]["length_error"], steps[0]["length_error"])
        cold, model = (pathlib.Path(whole_outputs[f"whole-{name}"]["model"]) for name in ("cold", "lengths"))
        self.assertEqual(self.weights(cold), self.weights(model))
        predictor = (model / "length_predictor.safetensors").read_bytes()
        self.assertFalse((cold / "length_predictor.safetensors").exists())

        outputs, resumed = self.kill_and_resume(
            self.chain(stages, run={"name": "killed"}),
            lambda e: e.get("event") == "sft_step" and e["kind"] == "length_predictor" and e["step"] >= 7)
        going_on = [e for e in resumed.events if e.get("event") == "resumed"]
        self.assertGreaterEqual(going_on[0]["step"], 6, resumed.story())
        again = pathlib.Path(outputs["killed-lengths"]["model"])
        self.assertEqual((again / "length_predictor.safetensors").read_bytes(), predictor)

        command, request = self.ask(model)
        status, out, err = tramontane(*command, "--json", stdin=request)
        self.assertEqual(status, 0, out + err)
        self.assertLessEqual(json.loads(out)["rollouts"][0]["usage"]["thinking"], 8)
        command, request = self.ask(cold)
        self.assert_error(command, "thinking.guidance", "no length predictor", stdin=request)
        command, request = self.ask(model, budget=None)
        self.assert_error(command, "thinking.guidance", "needs a budget", stdin=request)
        # One that is not this model's is named before anything is served.
        (model / "length_predictor.safetensors").write_bytes(self.weights(cold))
        command, request = self.ask(model)
        self.assert_error(command, "length_predictor.safetensors", stdin=request)

    def test_rows_without_thoughts_and_rollouts_to_learn_from_are_refused(self):
        stages = [{"name": "lengths", "kind": "length_predictor", "data": [self.rows]}]
        self.assert_error(["run", self.chain(stages)], "stage 'lengths'", "no completion has thoughts")
        guided = {"rollout": {"max_new_tokens": 48, "thinking": {"budget": 8, "guidance": True}}}
        self.assert_error(["run", self.chain([{"name": "a", "kind": "rl", "set": guided}])],
                          "guided_tokens_are_not_trained_on")


class Refused(Stages):
    def test_before_anything_starts(self):
        for stages, words in (
                ([{"name": "a", "kind": "sft", "data": ["later"]}, {"name": "later", "kind": "reject_sample"}],
                 ["stages_take_from_earlier_ones"]),
                ([{"name": "a", "kind": "sft", "data": ["/nowhere/rows.jsonl"]}], ["a", "/nowhere/rows.jsonl"]),
                ([{"name": "a", "kind": "merge", "models": ["base", "/nowhere/model"]}], ["/nowhere/model"]),
                ([{"name": "a", "kind": "rl", "set": {"algorithm": {"advantage": {"baseline": "value"}}}}],
                 ["stage 'a'", "critic_learns"]),
                ([{"name": "a", "kind": "rl", "set": {"data": {"verifier": "none"}}}], ["stage 'a'", "none"])):
            self.assert_error(["run", self.chain(stages)], *words)
        self.assertFalse((self.folder / "runs").exists())

    def test_rows_that_are_none_name_their_line_and_nothing_is_lost(self):
        bad = self.folder / "bad.jsonl"
        bad.write_text('{"prompt": "1+1=", "chosen": "2", "rejected": "3"}\n{"prompt": "1+2=", "chosen": "3"}\n')
        stages = [{"name": "sft", "kind": "sft", "data": [self.rows]},
                  {"name": "dpo", "kind": "dpo", "data": [str(bad)]}]
        error = self.assert_error(["run", self.chain(stages)], "stage 'dpo'", f"{bad}:2", "rejected")
        self.assertEqual(error["code"], "INVALID_ARGUMENT")
        run_dir = self.folder / "runs/test"
        self.assertEqual(list(self.outputs(run_dir)), ["sft"])
        bad.write_text('{"prompt": "1+1=", "chosen": "2", "rejected": "3"}\n')
        with Run(run_dir, "--resume") as resumed:
            self.assertEqual(set(self.finish(resumed)), {"sft", "dpo"})

    def test_other_rows_do_not_go_on_from_a_checkpoint(self):
        rows = pathlib.Path(self.rows)
        stages = [{"name": "sft", "kind": "sft", "data": [str(rows)], "set": {"sft": {"steps": 5000}}}]
        with Run(self.chain(stages)) as run:
            run.wait_for(lambda e: e.get("event") == "sft_step" and e["step"] >= 3, 60)
            run.process.send_signal(signal.SIGINT)
            run.finish(60)
        rows.write_text("".join(rows.read_text().splitlines(True)[1:]))
        self.assert_error(["run", run.run_dir, "--resume"], "other rows")

    def test_a_teacher_of_another_vocabulary(self):
        other = self.folder / "other"
        subprocess.run([BIN / "tramontane", "init-model", "--out", other, "--tokenizer", TOKENIZER, "--json"],
                       input=json.dumps(TINY_MODEL | {"vocab_size": 300}), text=True, check=True,
                       stdout=subprocess.DEVNULL)
        stages = [{"name": "kd", "kind": "distill", "models": [str(other)], "data": [self.rows]}]
        self.assert_error(["run", self.chain(stages)], "teacher_and_student_share_a_vocabulary")


class Published(TestCase):
    """Long: each chain of examples/stages to its end, and what came out."""

    def run_chain(self, name, timeout=2400):
        data = SOURCE / "runs/stages-data"
        if not (data / "base").exists():
            subprocess.run([sys.executable, SOURCE / "examples/stages/make_data.py"], check=True,
                           env={"TRAMONTANE": str(BIN / "tramontane"), "PATH": "/usr/bin:/bin"}, timeout=120)
        os.chdir(SOURCE)  # the configurations name their data from there
        with Run(SOURCE / f"examples/stages/{name}.yaml", "--output", self.folder / "runs") as run:
            self.assertEqual(run.finish(timeout), 0, run.story())
        summary = json.loads((run.run_dir / "summary.json").read_text())
        self.models = {stage["name"]: stage["model"] for stage in summary["stages"] if "model" in stage}
        for stage in summary["stages"]:
            own = pathlib.Path(stage["run_dir"]) / "summary.json"
            if own.exists():
                stage |= {key: value for key, value in json.loads(own.read_text()).items() if key in (
                    "accuracy_before", "accuracy_after", "reward_first", "reward_last_10")}
            print(name, json.dumps({key: value for key, value in stage.items()
                                    if key not in ("model", "rows", "run_dir", "state")}))
        return {stage["name"]: stage for stage in summary["stages"]}

    def lengths(self, model):
        """Held-out accuracy and mean tokens of eight samples a prompt."""
        prompts = read_lines(SOURCE / "runs/stages-data/eval.jsonl")
        request = {"prompts": [row["prompt"] for row in prompts], "max_new_tokens": 48, "temperature": 1, "n": 8}
        status, out, err = tramontane("generate", "--model", model, "--json", stdin=json.dumps(request), timeout=300)
        self.assertEqual(status, 0, err)
        rollouts = json.loads(out)["rollouts"]
        right = [f"\\boxed{{{prompts[r['prompt_index']]['answer']}}}" in r["text"] for r in rollouts]
        return sum(right) / len(right), sum(len(r["tokens"]) for r in rollouts) / len(rollouts)

    def switched(self, model, prompt, on, silent):
        """Of held-out samples, the share that is right in the form the switch asks for, and the share that
        begins with a thought. `silent`: what stands before the answer when the switch is off."""
        rows = read_lines(SOURCE / "runs/stages-data/eval.jsonl")
        request = {"prompts": [prompt(row["prompt"], on) for row in rows], "max_new_tokens": 48, "temperature": 1,
                   "n": 16}
        status, out, err = tramontane("generate", "--model", model, "--json", stdin=json.dumps(request), timeout=300)
        self.assertEqual(status, 0, err)
        rollouts = json.loads(out)["rollouts"]
        form = "(?s)<think>.+</think>" if on else silent
        right = [bool(re.fullmatch(form + rows[r["prompt_index"]]["answer"], r["text"].strip())) for r in rollouts]
        thinks = [r["text"].startswith("<think>") for r in rollouts]
        return sum(right) / len(right), sum(thinks) / len(thinks)

    def test_r1(self):
        stages = self.run_chain("r1")
        self.assertGreater(stages["reasoning"]["accuracy_after"], stages["reasoning"]["accuracy_before"])

    def test_long2short(self):
        self.run_chain("long2short")
        seen = {name: self.lengths(self.models[name]) for name in ("long", "short", "merged", "srs", "dpo", "rl")}
        for name, (accuracy, tokens) in seen.items():
            print(f"long2short {name}: sampled accuracy {accuracy:.3f}, {tokens:.1f} tokens")
        for name in ("srs", "dpo", "rl"):
            self.assertLess(seen[name][1], seen["long"][1], name)

    def test_qwen3_fusion(self):
        self.run_chain("qwen3_fusion")
        prompt = lambda text, on: text + ("/think" if on else "/no_think")
        seen = {name: [self.switched(self.models[name], prompt, on, "<think></think>")[0] for on in (True, False)]
                for name in ("fusion", "general", "student", "student_on_policy")}
        for name, (on, off) in seen.items():
            print(f"qwen3_fusion {name}: right in {on:.3f} of samples with thoughts, in {off:.3f} without")
        self.assertGreater(sum(seen["general"]), sum(seen["fusion"]))
        self.assertGreater(sum(seen["student_on_policy"]), sum(seen["student"]))

    def test_phi4(self):
        self.run_chain("phi4")

    def test_nemotron_toggle(self):
        self.run_chain("nemotron_toggle")
        prompt = lambda text, on: f"detailed thinking {'on' if on else 'off'}\n{text}"
        right = {}
        for name in ("paired", "rl"):
            (right_on, on), (right_off, off) = (self.switched(self.models[name], prompt, switch, "")
                                                for switch in (True, False))
            print(f"nemotron_toggle {name}: right in {right_on:.3f} of samples when on, {right_off:.3f} when off; "
                  f"thinks in {on:.3f} when on, {off:.3f} when off")
            self.assertGreater(on, 0.9)
            self.assertLess(off, 0.1)
            right[name] = right_on + right_off
        self.assertGreater(right["rl"], right["paired"])


if __name__ == "__main__":
    main()
