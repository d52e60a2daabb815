"""Verifiers from outside: the guide's commands as they stand there, the registry, and runs whose
verifier lies, changes or is looked at beside another."""
import json
import os
import pathlib
import re
import subprocess
import time
import unittest

from harness import BIN, SOURCE, TOKENIZER, Run, TestCase, main, merged, tramontane
from http_harness import Server

DIGITS = '''
from tramontane_verifier import verifier

@verifier(name="digits", version="VERSION")
def digits(completion):
    return sum(c in CHARACTERS for c in completion) / max(1, len(completion))
'''


def python():
    """The interpreter that has the package; made when it is not there."""
    made = subprocess.run([SOURCE / "deps/make-python-verifier.sh"], check=True, capture_output=True, text=True)
    return pathlib.Path(made.stdout.strip()) / "bin/python3"


class Verifiers(TestCase):
    def setUp(self):
        super().setUp()
        os.environ["TRAMONTANE_REGISTRY"] = str(self.folder / "registry")
        self.addCleanup(os.environ.pop, "TRAMONTANE_REGISTRY")

    def make_tasks(self, **sizes):
        """Rows that name no verifier: the configuration's judges them."""
        super().make_tasks(**sizes)
        for file in (self.folder / "data").glob("*.jsonl"):
            file.write_text(file.read_text().replace('"verifier":"math",', ""))

    def sdk(self, *arguments):
        done = subprocess.run([python(), "-m", "tramontane_verifier", *map(str, arguments)], check=False,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def ask(self, *arguments):
        status, out, err = tramontane(*arguments, "--json", timeout=90)
        self.assertEqual(status, 0, out + err)
        return json.loads(out)

    def write_digits(self, version, characters='"0123456789"'):
        file = self.folder / f"digits_{version.replace('.', '_')}.py"
        file.write_text(DIGITS.replace("VERSION", version).replace("CHARACTERS", characters))
        return file

    def submit(self, version, characters='"0123456789"'):
        packed = json.loads(self.sdk("pack", self.write_digits(version, characters), "--out", self.folder))
        self.ask("verifiers", "submit", packed["manifest"], "--python", python())
        return packed

    def command(self, file, *arguments):
        return [str(python()), "-m", "tramontane_verifier", "serve", str(file), "--workers", "1", "--bind",
                "127.0.0.1:{port}", *arguments]

    def verdicts(self, run_dir):
        files = sorted(run_dir.glob("rollouts/step_*/train.jsonl"), key=lambda f: int(f.parent.name[5:]))
        return [json.loads(line)["verdict"] for file in files for line in file.read_bytes().splitlines()]


class Guide(Verifiers):
    def test_every_command_of_the_guide_works(self):
        page = (SOURCE / "docs/guides/write-a-verifier.md").read_text()
        script = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
        self.assertIn("./tramontane run", script)
        # A stand-in for the repository, so that nothing is written into it.
        for name in ("deps", "examples", "proto", "verifier"):
            (self.folder / name).symlink_to(SOURCE / name)
        (self.folder / "tramontane").symlink_to(BIN / "tramontane")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, check=False,
                              capture_output=True, text=True, timeout=280)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        for said in ("3 passed, 0 failed", "only now", '"current":"1.0.0"'):
            self.assertIn(said, done.stdout)
        run_dir = self.folder / "my-verifier/runs/digits"
        verdicts = self.verdicts(run_dir)
        self.assertEqual({v["verifier"] for v in verdicts}, {"digits"})
        scores = [v["score"] for v in verdicts if v["status"] == "scored"]
        self.assertLess(sum(scores[:64]) / 64, 0.2)
        self.assertGreater(sum(scores[-64:]) / 64, 0.7, "the reward does not rise")


class Registry(Verifiers):
    def test_versions_are_submitted_compared_promoted_and_rolled_back(self):
        self.make_tasks(train=60)
        first = self.submit("1.0.0")
        self.submit("1.1.0", '"0123456789abcdefghij"')
        listed = self.ask("verifiers", "list")["verifiers"]
        self.assertEqual([(v["name"], v["current"]) for v in listed], [("digits", "1.0.0")])
        self.assert_error(("verifiers", "promote", "digits", "1.1.0"), "nobody has looked")
        self.assert_error(("verifiers", "promote", "digits", "7.0.0", "--force"), "1.0.0, 1.1.0")
        self.assert_error(("verifiers", "submit", self.folder / "nothing.json"), "nothing.json")

        config = self.write_config({"run": {"max_steps": 3}, "data": {"verifier": "digits"},
                                    "verifiers": {"digits": {"use": "digits"}}})
        with Run(config) as run:
            self.assertEqual(run.finish(120), 0, run.story())
            run_dir = run.run_dir
        pinned = json.loads((run_dir / "configs/config.json").read_text())["verifiers"]["digits"]
        self.assertEqual((pinned["use"], pinned["digest"]), ("digits@1.0.0", first["digest"]))
        self.assertEqual({v["verifier_digest"] for v in self.verdicts(run_dir)}, {first["digest"]})
        batches = [json.loads(line) for line in (run_dir / "journal.jsonl").read_bytes().splitlines()]
        batches = [b.get("record", b) for b in batches]
        judges = [b["detail"]["verifiers"] for b in batches if b["kind"] == "batch"]
        self.assertEqual(judges, [{"digits@1.0.0": [first["digest"]]}] * 3)

        same = self.ask("reverify", run_dir, "--verifier", "digits")
        self.assertEqual((same["differing"], same["unscored"]), (0, 0))
        self.assertGreater(same["samples"], 0)
        self.assertEqual(same["without_params"], 0)
        promoted = self.ask("verifiers", "promote", "digits", "1.1.0", "--run", run_dir)
        self.assertGreater(promoted["report"]["mean_new"], promoted["report"]["mean_old"])
        replayed = json.loads(self.sdk("replay", self.folder / "digits_1_1_0.py", run_dir, "--json"))
        for key in ("samples", "same", "differing", "correct"):
            self.assertEqual(replayed[key], promoted["report"][key], key)
        self.assertAlmostEqual(replayed["mean_new"], promoted["report"]["mean_new"])
        self.assertEqual(self.ask("verifiers", "list")["verifiers"][0]["current"], "1.1.0")

        moved = self.ask("verifiers", "pin", run_dir, "digits@1.1.0")
        self.assertEqual(moved["verifiers"], ["digits"])
        with Run(run_dir, "--resume", "run.max_steps=4") as again:
            self.assertEqual(again.finish(120), 0, again.story())
        self.assertEqual({v["verifier_version"] for v in self.verdicts(run_dir)}, {"1.0.0", "1.1.0"})
        self.assertEqual(self.ask("verifiers", "rollback", "digits")["current"], "1.0.0")
        self.assert_error(("verifiers", "rollback", "digits"), "no version was current before")

    def test_a_version_stays_what_it_was(self):
        packed = self.submit("1.0.0")
        changed = json.loads(self.sdk("pack", self.write_digits("1.0.0", '"01"'), "--out", self.folder / "b"))
        self.assertNotEqual(packed["digest"], changed["digest"])
        self.assert_error(("verifiers", "submit", changed["manifest"]), packed["digest"], "new version")
        archive = self.folder / "b/digits-1.0.0.zip"
        archive.write_bytes(archive.read_bytes()[:-1] + b"!")
        self.assert_error(("verifiers", "submit", changed["manifest"]), "is not the package")
        self.assert_error(("reverify", self.folder, "--verifier", "digits"), "run directory")


class Runs(Verifiers):
    def run_with(self, verifiers, steps=4, **changes):
        self.make_tasks(train=60)
        config = self.write_config(merged({"run": {"max_steps": steps}, "data": {"verifier": "digits"},
                                           "verifiers": verifiers}, changes))
        return Run(config)

    def test_a_shadow_is_compared_in_status_and_never_used(self):
        first, second = self.write_digits("1.0.0"), self.write_digits("2.0.0", "completion")
        verifiers = {"digits": {"command": self.command(first), "shadow": "next"},
                     "next": {"command": self.command(second)}}
        with self.run_with(verifiers, steps=400) as run:
            run.wait_for_step(4)
            processes = self.ask("status", run.run_dir)["processes"]
            seen = [p for p in processes if p["kind"] == "generator"][0]["detail"]["verifiers"]
            shadow = seen["digits"]["shadow"]
            self.assertEqual(shadow["verifier"], "next")
            self.assertGreater(shadow["compared"], 0)
            self.assertGreater(shadow["mean_difference"], 0)
            self.assertEqual(seen["digits"]["state"], "serving")
            status, text, _ = tramontane("status", run.run_dir)
            self.assertIn("beside next", text)
            run_dir = run.run_dir
        self.assertEqual({v["verifier_version"] for v in self.verdicts(run_dir)}, {"1.0.0"})

    def test_dead_letters_are_visible_and_the_run_goes_on(self):
        file = self.folder / "liar.py"
        file.write_text(DIGITS.replace("VERSION", "1.0.0").replace(
            "    return", "    if len(completion) % 13 == 0: return float('nan')\n"
            "    if len(completion) % 17 == 0: raise RuntimeError('broken here')\n    return").replace(
            "CHARACTERS", "'0123456789'"))
        with self.run_with({"digits": {"command": self.command(file)}}, steps=400) as run:
            run.wait_for_step(1, timeout=120)
            for _ in range(120):
                processes = self.ask("status", run.run_dir)["processes"]
                seen = [p for p in processes if p["kind"] == "generator"][0]["detail"]["verifiers"]["digits"]
                if seen["dead_letters"]["total"] > 0:
                    break
                time.sleep(0.5)
            self.assertGreater(seen["dead_letters"]["total"], 0)
            before = max(e["step"] for e in run.events if e.get("event") == "step")
            run.wait_for_step(before + 1, timeout=120)
            self.assertEqual(seen["dead_letters"]["newest"][-1]["tries"], 3)
            self.assertIn("dead letters", tramontane("status", run.run_dir)[1])
            run_dir = run.run_dir
        for verdict in self.verdicts(run_dir):
            if verdict["status"] != "scored":
                self.assertIsNone(verdict["score"])

    def test_group_scorers_train_a_run(self):
        file = self.folder / "longest.py"
        file.write_text("from tramontane_verifier import verifier\n\n\n"
                        "@verifier(name='longest', version='1.0.0')\n"
                        "def longest(completions):\n"
                        "    most = max(map(len, completions)) or 1\n"
                        "    return [len(c) / most for c in completions]\n")
        with self.run_with({"digits": {"command": self.command(file)}}) as run:
            self.assertEqual(run.finish(120), 0, run.story())
            groups = {}
            for path in run.run_dir.glob("rollouts/step_*/train.jsonl"):
                for line in path.read_bytes().splitlines():
                    rollout = json.loads(line)
                    groups.setdefault(rollout["gid"], []).append(rollout["verdict"]["score"])
        self.assertTrue(groups)
        for scores in groups.values():
            self.assertEqual(max(scores), 1.0)

    def test_functions_see_messages_and_seeds_as_replay_does(self):
        # As TRL's think_format_reward: it reads the completion as a message.
        trl = self.folder / "rewards.py"
        trl.write_text("def told(completions, prompts, **kwargs):\n"
                       "    assert prompts[0][0]['role'] == 'user', prompts\n"
                       "    return [len(c[0]['content']) % 7 / 7 for c in completions]\n")
        drawing = self.folder / "drawing.py"
        drawing.write_text("from tramontane_verifier import verifier\n\n\n"
                           "@verifier(name='drawing', version='1', determinism='seeded')\n"
                           "def drawing(completion, messages, seed):\n"
                           "    assert messages[-1]['content'].endswith('='), messages\n"
                           "    return seed / 2**64\n")
        for file, target in ((trl, f"{trl}:told"), (drawing, drawing)):
            # Rows of texts that the template wraps, as chat models want them.
            with self.run_with({"digits": {"command": self.command(target)}}, steps=2,
                               data={"apply_chat_template": True}, run={"name": file.stem}) as run:
                self.assertEqual(run.finish(120), 0, run.story())
                run_dir = run.run_dir
            verdicts = self.verdicts(run_dir)
            self.assertEqual({v["status"] for v in verdicts}, {"scored"}, verdicts[0])
            self.assertGreater(len({v["score"] for v in verdicts}), 1)
            document = json.loads(self.sdk("replay", target, run_dir, "--json"))
            self.assertEqual((document["differing"], document["unscored"]), (0, 0), document)

    def test_a_served_model_judges(self):
        file = self.folder / "judge.py"
        with Server(self.folder) as server:
            for make, form in (("make", "Score: [0-9]"), ("make_pairwise", "Better: (A|B|tie)")):
                # A model that knows nothing keeps to the form when it can draw nothing else.
                file.write_text("from tramontane_verifier.adapters import openai_judge\n"
                                f"judge = openai_judge.{make}('http://{server.address}', 'tiny', "
                                f"template='$prompt $mark', max_tokens=12, guided_regex='{form}')\n")
                request = {"prompt": "1+1="} | ({"completion": "2"} if make == "make" else
                                                {"group": [{"completion": c} for c in "23"]})
                cases = self.folder / f"{make}.jsonl"
                cases.write_text(json.dumps(request | {"expect": {"status": "scored"}}) + "\n")
                self.assertIn("1 passed, 0 failed", self.sdk("test", file, "--cases", cases))
        cases.write_text(json.dumps(request | {"expect": {"status": "verifier_error"}}) + "\n")
        self.assertIn("1 passed", self.sdk("test", file, "--cases", cases))  # nobody listens any more

    def test_a_row_that_names_no_verifier_of_the_run_is_an_error_at_the_start(self):
        TestCase.make_tasks(self, train=60)
        file = self.write_digits("1.0.0")
        config = self.write_config({"data": {"verifier": "digits"},
                                    "verifiers": {"digits": {"command": self.command(file)}}})
        with Run(config) as run:
            self.assertNotEqual(run.finish(60), 0, run.story())
            self.assertIn("verifier 'math' is not in `verifiers`", json.dumps(run.events))

    def test_a_service_that_is_not_the_one_pinned_is_named(self):
        file = self.write_digits("1.0.0")
        with self.run_with({"digits": {"command": self.command(file), "digest": "0" * 64}}) as run:
            self.assertNotEqual(run.finish(120), 0, run.story())
            self.assertIn("verifiers.digits.digest pins " + "0" * 64, json.dumps(run.events))


class Searching(Verifiers):
    def serve_digits(self):
        process = subprocess.Popen([python(), "-m", "tramontane_verifier", "serve", self.write_digits("1.0.0"),
                                    "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)
        return process, json.loads(process.stdout.readline())["address"]

    def test_a_served_verifier_chooses_among_the_paths(self):
        process, address = self.serve_digits()

        def share(text):
            return sum(c in '"0123456789"' for c in text) / max(1, len(text))

        with Server(self.folder, "--verifier", f"digits={address}") as server:
            body = {"prompt": "1+1=", "max_tokens": 30, "seed": 3, "ignore_eos": True}
            for search in ({"method": "best_of_n", "n": 8}, {"method": "beam", "n": 4, "step_end": "e", "max_steps": 4}):
                choice = server.complete(**body, search={**search, "scorer": "digits"})["choices"][0]
                found = choice["search"]
                for candidate in found["candidates"]:
                    self.assertAlmostEqual(candidate["score"], share(candidate["text"]), places=6)
                self.assertEqual(found["score"], max(c["score"] for c in found["candidates"]))
                self.assertAlmostEqual(share(choice["text"]), found["score"], places=6)
            # Nobody scores: the deadline ends the search, and the rest goes on.
            process.kill()
            status, _, reply = server.ask("POST", "/v1/completions", {
                **body, "timeout_s": 2, "search": {"n": 2, "scorer": "digits"}})
            self.assertEqual(status, 504, reply)
            self.assertEqual(server.complete(**body)["usage"]["completion_tokens"], 30)

    def test_a_bad_verifier_option_is_refused(self):
        for option, why in (("digits", "must be NAME=host:port"), ("value=127.0.0.1:1", "reserved"),
                            ("mean_logprob=127.0.0.1:1", "reserved")):
            status, out, err = tramontane("serve", "--model", self.folder, "--verifier", option)
            self.assertEqual(status, 1)
            self.assertIn("--verifier", out + err)
            self.assertIn(why, out + err)


if __name__ == "__main__":
    main()
