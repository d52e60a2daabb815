"""The command line's `test` and `convert`, and the pieces below the service."""
import contextlib
import io
import json
import math
import tempfile
import unittest
from pathlib import Path

from tramontane_verifier import cli, outcome, verifier
from tramontane_verifier.spec import ARGUMENTS, BadInput

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

    def test_a_good_verifier_passes_its_cases_and_the_adversarial_set(self):
        file = self.write("good.py", GOOD)
        cases = self.write("cases.jsonl", "\n".join(json.dumps(c) for c in (
            {"completion": "5", "answer": "5", "expect": {"reward": 1.0, "correct": True}},
            {"completion": "6", "answer": "5", "expect": {"reward": 0.0, "status": "scored"}},
        )))
        code, out, _ = run("test", file, "--cases", cases)
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
        code, out, _ = run("test", file)
        self.assertEqual(code, 1)
        self.assertIn("FAIL empty", out)

    def test_a_verifier_that_is_not_deterministic_fails(self):
        file = self.write("random_one.py", GOOD.replace(
            "return", "import random\n    return random.random()\n    return"))
        cases = self.write("cases.jsonl", '{"completion": "6", "answer": "5"}\n')
        code, out, _ = run("test", file, "--cases", cases, "--workers", "1")
        self.assertEqual(code, 1)
        self.assertIn("not deterministic", out)

    def test_parquet_becomes_one_object_a_row(self):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            self.skipTest("pyarrow is not installed")
        rows = [{"prompt": [{"role": "user", "content": "1+1=é"}], "n": 1, "none": None},
                {"prompt": [{"role": "user", "content": "2+2="}], "n": 2, "none": None}]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), self.path / "in.parquet")
        code, out, _ = run("convert", self.path / "in.parquet", self.path / "out.jsonl")
        self.assertEqual(code, 0, out)
        lines = (self.path / "out.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual([json.loads(line) for line in lines], rows)

    def test_a_failed_conversion_leaves_nothing_behind(self):
        self.write("in.parquet", "this is not parquet")
        try:
            code, _, err = run("convert", self.path / "in.parquet", self.path / "out.jsonl")
        except SystemExit:  # no pyarrow
            code, err = 1, ""
        self.assertEqual(code, 1, err)
        self.assertEqual([p.name for p in self.path.iterdir()], ["in.parquet"])


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
        self.assertEqual(outcome.interpret(1.0, (0.0, 1.0))["status"], "SCORED")
        self.assertEqual(outcome.interpret(1.01, (0.0, 1.0))["status"], "VERIFIER_ERROR")
        self.assertEqual(outcome.interpret(-0.01, (0.0, 1.0))["status"], "VERIFIER_ERROR")


if __name__ == "__main__":
    unittest.main()
