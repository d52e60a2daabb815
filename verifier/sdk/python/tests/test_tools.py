"""The command line but for `serve`, and the pieces below the service."""
import contextlib
import datetime
import decimal
import hashlib
import io
import json
import math
import os
import tempfile
import unittest
import unittest.mock
import zipfile
from pathlib import Path

from tramontane_verifier import cli, outcome, verifier
from tramontane_verifier.spec import ARGUMENTS, BadInput, digest, load

GOOD = """
from tramontane_verifier import verifier

@verifier(name="good", version="1.0.0")
def good(completion, answer):
    return 1.0 if completion.strip() == answer else 0.0
"""


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


class ToolsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        (self.path / name).write_text(text)
        return self.path / name

    def test_init_writes_a_verifier_that_passes_everything(self):
        code, out, err = run("init", "my-first", "--folder", self.path / "new")
        self.assertEqual(code, 0, err)
        file = self.path / "new" / "my_first.py"
        self.assertLessEqual(len(file.read_text().splitlines()), 10)
        for command in ("validate", "test"):
            code, out, err = run(command, file, "--workers", "1")
            self.assertEqual(code, 0, out + err)
        self.assertIn("4 passed", out)
        code, _, err = run("init", "my-first", "--folder", self.path / "new")
        self.assertEqual(code, 1)
        self.assertIn("is there already", err)

    def test_every_row_of_a_data_set_is_put_before_the_verifier(self):
        boxed = self.write("boxed.py", """
from tramontane_verifier import verifier
from tramontane_verifier.answers import last_box

@verifier(name="boxed", version="1.0.0")
def boxed(completion, answer):
    if not answer:
        return None
    return 1.0 if last_box(completion) == answer else 0.0
""")
        rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(20)]
        data = self.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        code, out, err = run("validate", boxed, "--workers", "1", "--data", data)
        self.assertEqual(code, 0, out + err)
        self.assertIn("20 of 20 right, said as <think></think>\\boxed{$answer}", out)
        rows[7]["answer"] = "{8"  # in a box it never closes
        del rows[9]["answer"]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, out, err = run("validate", boxed, "--workers", "1", "--data", data)
        self.assertEqual(code, 1, out + err)
        for said in ("18 of 20 right", "rows.jsonl:8: scored, reward 0.0", "19 of 20",
                     "rows.jsonl:10: skipped"):
            self.assertIn(said, out)
        code, out, _ = run("validate", boxed, "--workers", "1", "--data", data, "--gold", "$answer",
                           "--limit", "5")
        self.assertEqual(code, 1)
        self.assertIn("0 of 5 right", out)

    def test_a_verifier_that_takes_anything_does_not_pass(self):
        anything = self.write("anything.py", GOOD.replace("1.0 if completion.strip() == answer else 0.0", "1.0"))
        data = self.write("rows.jsonl", "".join(
            json.dumps({"question": f"{n}+1=", "solution": str(n + 1), "kind": "sum"}) + "\n"
            for n in range(6)))
        code, out, err = run("validate", anything, "--workers", "1", "--data", data)
        self.assertEqual(code, 1, out + err)
        for said in ("gold answers: 6 of 6 right", "other rows' answers: 6 of 6 right",
                     "empty completions: 6 of 6 right"):
            self.assertIn(said, out)
        self.assertIn("2 failed", out)

    def test_what_the_author_got_wrong_is_said(self):
        file = self.write("good.py", GOOD)
        for arguments, reason in (
                (("test", file), "good_cases.jsonl"),
                (("test", file, "--cases", self.write("bad.jsonl", "{}\n[1]\n")), "bad.jsonl:2"),
                (("test", file, "--cases", self.write("none.jsonl", "")), "no cases"),
                (("validate", f"{file}:nothing"), "has no 'nothing'"),
                (("validate", "no_such_module_anywhere"), "neither a .py file"),
                (("validate", self.write("broken.zip", "no zip")), "not a verifier package"),
                (("init", "../x"), "letters, digits")):
            code, out, err = run(*arguments)
            self.assertEqual(code, 1, arguments)
            self.assertIn(reason, out + err)

    def test_a_good_verifier_passes_its_cases_and_the_adversarial_set(self):
        file = self.write("good.py", GOOD)
        cases = self.write("cases.jsonl", "\n".join(json.dumps(c) for c in (
            {"completion": "5", "answer": "5", "expect": {"reward": 1.0, "correct": True}},
            {"completion": "6", "answer": "5", "expect": {"reward": 0.0, "status": "scored"}},
        )))
        for command in ("test", "validate"):
            code, out, _ = run(command, file, "--cases", cases)
            self.assertEqual(code, 0, out)
            self.assertIn("0 failed", out)

    def test_a_case_that_differs_fails(self):
        file = self.write("good.py", GOOD)
        cases = self.write("cases.jsonl",
                           '{"completion": "6", "answer": "5", "expect": {"reward": 1.0}}\n')
        code, out, _ = run("test", file, "--cases", cases)
        self.assertEqual(code, 1)
        self.assertIn("FAIL", out)

    def test_a_verifier_that_chokes_on_odd_completions_fails(self):
        file = self.write("fragile.py", GOOD.replace("return", "int(completion[0])\n    return"))
        code, out, _ = run("validate", file)
        self.assertEqual(code, 1)
        self.assertIn("FAIL empty", out)

    def test_a_verifier_that_is_not_deterministic_fails(self):
        file = self.write("random_one.py", GOOD.replace(
            "return", "import random\n    return random.random()\n    return"))
        cases = self.write("cases.jsonl", '{"completion": "6", "answer": "5"}\n')
        code, out, _ = run("test", file, "--cases", cases, "--workers", "1")
        self.assertEqual(code, 1)
        self.assertIn("not deterministic", out)

    def write_parquet(self, columns):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            self.skipTest("pyarrow is not installed")
        table = pyarrow.table(columns)
        pyarrow.parquet.write_table(table, self.path / "in.parquet", row_group_size=2)
        return self.path / "in.parquet"

    def test_parquet_becomes_one_object_a_row(self):
        when = datetime.datetime(2026, 1, 2, 3, 4, 5)
        source = self.write_parquet({
            "prompt": [[{"role": "user", "content": f"{i}+1=é"}] for i in range(5)],
            "n": list(range(5)), "none": [None] * 5, "when": [when] * 5,
            "exact": [decimal.Decimal("1.10")] * 5})
        code, out, _ = run("convert", source, self.path / "out.jsonl")
        self.assertEqual(code, 0, out)
        self.assertIn("5 rows", out)
        lines = (self.path / "out.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual([json.loads(line) for line in lines],
                         [{"prompt": [{"role": "user", "content": f"{i}+1=é"}], "n": i, "none": None,
                           "when": "2026-01-02T03:04:05", "exact": "1.10"} for i in range(5)])

    def test_what_json_cannot_hold_is_named_by_row_and_column(self):
        for bad, reason in (([0.5, 1.0, 2.0, math.nan], "not JSON compliant"),
                            ([0.5, 1.0, 2.0, math.inf], "not JSON compliant"),
                            ([None, None, None, b"\x00"], "binary values"),
                            ([[], [], [], [{"deep": b"x"}]], "binary values")):
            source = self.write_parquet({"fine": ["a", "b", "c", "d"], "bad": bad})
            code, _, err = run("convert", source, self.path / "out.jsonl")
            self.assertEqual(code, 1, bad)
            self.assertIn(f"{source}: row 4, column 'bad': ", err)
            self.assertIn(reason, err)
            self.assertEqual([p.name for p in self.path.iterdir()], ["in.parquet"])

    def test_a_failed_conversion_leaves_nothing_behind(self):
        self.write("in.parquet", "this is not parquet")
        try:
            code, _, err = run("convert", self.path / "in.parquet", self.path / "out.jsonl")
        except SystemExit:  # no pyarrow
            code, err = 1, ""
        self.assertEqual(code, 1, err)
        self.assertEqual([p.name for p in self.path.iterdir()], ["in.parquet"])


class PackageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name)
        cache = unittest.mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.path / "cache")})
        cache.start()
        self.addCleanup(cache.stop)
        (self.path / "words.txt").write_text("five")
        (self.path / "packed.py").write_text(GOOD.replace("answer):", "answer):\n    import pathlib"
            "\n    answer = (pathlib.Path(__file__).parent / 'words.txt').read_text()").replace(
            'version="1.0.0"', 'version="1.0.0", includes=("words.txt",)'))

    def pack(self, name):
        code, out, err = run("pack", self.path / "packed.py", "--out", self.path / name)
        self.assertEqual(code, 0, err)
        return json.loads(out)

    def test_a_package_is_the_verifier_with_the_same_digest(self):
        first, second = self.pack("a"), self.pack("b")
        archives = [(self.path / name / "good-1.0.0.zip").read_bytes() for name in "ab"]
        self.assertEqual(*archives, "packing twice gives the same bytes")
        manifest = json.loads(Path(first["manifest"]).read_text())
        self.assertEqual(manifest["sha256"], hashlib.sha256(archives[0]).hexdigest())
        for target in (self.path / "packed.py", self.path / "a" / "good-1.0.0.zip"):
            spec = load(str(target))
            self.assertEqual(digest(str(target), spec), second["digest"])
            self.assertEqual(spec.call({"completion": "five"}), 1.0)

    def test_the_digest_covers_what_is_included(self):
        before = self.pack("a")["digest"]
        (self.path / "words.txt").write_text("six")
        self.assertNotEqual(self.pack("b")["digest"], before)
        (self.path / "words.txt").unlink()
        code, _, err = run("pack", self.path / "packed.py")
        self.assertEqual(code, 1)
        self.assertIn("words.txt", err)

    def test_a_damaged_package_is_refused(self):
        self.pack("a")
        whole = self.path / "a" / "good-1.0.0.zip"
        broken = self.path / "broken.zip"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(broken, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                target.writestr(name, data.replace(b"five", b"four"))
        with self.assertRaisesRegex(ValueError, "words.txt is damaged"):
            load(str(broken))


class ReplayTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_dir = Path(folder.name) / "run"
        for step in (2, 10):
            lines = []
            for i, (text, score) in enumerate((("5", 1.0), ("6", 0.0), ("five", 0.0), ("7", None))):
                lines.append(json.dumps({
                    "step": step, "gid": "ab" * 16, "sample_index": i, "prompt": "2+3=", "answer": "5",
                    "text": text, "tokens": [1], "finish_reason": "stop", "params": {},
                    "verdict": {"verifier": "old", "score": score, "correct": score == 1.0}}))
            target = self.run_dir / f"rollouts/step_{step}/train.jsonl"
            target.parent.mkdir(parents=True)
            target.write_text("\n".join(lines) + "\n")
        self.file = Path(folder.name) / "kinder.py"
        self.file.write_text(GOOD.replace("== answer", "in (answer, 'five')"))

    def test_shows_what_would_have_been_different(self):
        code, out, err = run("replay", self.file, self.run_dir, "--json", "--workers", "1")
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        self.assertEqual((report["samples"], report["same"], report["differing"], report["unscored"]),
                         (8, 4, 2, 2))
        self.assertEqual(report["correct"], {"both": 2, "neither": 2, "only_old": 0, "only_new": 2})
        self.assertAlmostEqual(report["mean_old"], 1 / 3)
        self.assertAlmostEqual(report["mean_new"], 2 / 3)
        self.assertEqual({item["step"] for item in report["largest"]}, {2, 10})
        code, out, _ = run("replay", self.file, self.run_dir, "--workers", "1")
        self.assertIn("2 only now", out)

    def test_group_scorers_see_their_groups(self):
        self.file.write_text(GOOD.replace("(completion, answer)", "(completions, answer)").replace(
            "1.0 if completion.strip() == answer else 0.0", "[len(completions) / 4] * len(completions)"))
        code, out, err = run("replay", self.file, self.run_dir, "--json", "--workers", "1")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["mean_new"], 1.0)

    def test_only_rollouts_of_the_verifier_named_and_no_more_than_asked_for(self):
        for arguments, samples in ((("--verifier", "other"), 0), (("--limit", "3"), 3)):
            code, out, err = run("replay", self.file, self.run_dir, "--json", *arguments)
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out)["samples"], samples)
        code, _, err = run("replay", self.file, self.run_dir / "nowhere")
        self.assertEqual(code, 1)
        self.assertIn("run directory", err)


class NameTest(unittest.TestCase):
    """A C++ program has the same name: neither may pass for the other."""

    def test_says_which_one_it_is(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), self.assertRaises(SystemExit) as ended:
            cli.main(["--version"])
        self.assertEqual(ended.exception.code, 0)
        self.assertRegex(out.getvalue(), r"^tramontane-verifier \S+ \(protocol 1\), the Python package\n$")

    def test_what_was_meant_for_the_other_one_is_sent_there(self):
        for arguments in (["grade"], ["serve", "--name", "math", "--config", "resolved.json"]):
            code, _, err = run(*arguments)
            self.assertEqual(code, 2, arguments)
            self.assertIn("C++ program of the same name", err)


class SpecTest(unittest.TestCase):
    def test_refuses_settings_that_make_no_sense(self):
        for settings in ({"reward_range": (1, 0)}, {"reward_range": (0, math.inf)},
                         {"timeout_s": 0}, {"determinism": "maybe"}, {"name": ""}):
            with self.assertRaises(ValueError):
                verifier(**{"name": "x", "version": "1", **settings})

    def test_missing_params_are_the_rows_fault(self):
        @verifier(name="x", version="1")
        def x(completion, needed, optional=3):
            return needed + optional

        self.assertEqual(x.call({"completion": "", "params": {"needed": 1}}), 4)
        with self.assertRaises(BadInput):
            x.call({"completion": "", "params": {}})

    def test_keyword_catch_all_gets_everything(self):
        @verifier(name="x", version="1")
        def x(**everything):
            return everything

        got = x.call({"completion": "c", "params": {"extra": 1}})
        self.assertEqual(set(got), {*ARGUMENTS, "extra"})

    def test_rewards_just_outside_the_range_are_refused(self):
        for reward, status in ((1.0, "SCORED"), (1.01, "VERIFIER_ERROR"), (-0.01, "VERIFIER_ERROR")):
            self.assertEqual(outcome.interpret(reward, (0.0, 1.0), 1.0)["status"], status)
        self.assertEqual(outcome.interpret(1e9, None, 1.0)["status"], "SCORED")
        self.assertEqual(outcome.interpret(math.nan, None, 1.0)["status"], "VERIFIER_ERROR")

    def test_too_many_numbers_are_refused(self):
        for metrics in ({str(i): 1.0 for i in range(65)}, {"x" * 129: 1.0}):
            said = outcome.interpret({"reward": 1.0, "metrics": metrics}, (0.0, 1.0), 1.0)
            self.assertEqual(said["status"], "VERIFIER_ERROR")


if __name__ == "__main__":
    unittest.main()
