"""Drives the built programs from outside, as a user does. Standard library only.

TRAMONTANE_BIN names the folder of the binaries, TRAMONTANE_SOURCE the repository (both set by
ctest). Every wait is bounded; every process started here is ended by its pid, whatever a test does.
"""
import copy
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

SOURCE = pathlib.Path(os.environ.get("TRAMONTANE_SOURCE", pathlib.Path(__file__).parents[2]))
BIN = pathlib.Path(os.environ.get("TRAMONTANE_BIN", SOURCE / "build/release/bin"))
TOKENIZER = SOURCE / "examples/demo/tokenizer"

TINY_MODEL = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 264, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "eos_token_id": 258, "pad_token_id": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}

# A model that knows nothing earns no reward: groups without variance must be trained on, too.
TINY_RUN = {
    "run": {"name": "test", "max_steps": 6},
    "model": {"init": TINY_MODEL, "init_tokenizer": str(TOKENIZER)},
    "rollout": {"samples_per_group": 4, "max_new_tokens": 24},
    "algorithm": {"filter": {"zero_variance": "keep"}},
    "trainer": {"groups_per_step": 4, "max_staleness_versions": 2, "eval_interval_steps": 3,
                "checkpoint_interval_steps": 2, "learning_rate": 1e-4},
    "generator": {"max_running_sequences": 32, "kv_blocks": 512, "lease_s": 5},
}


def merged(base, changes):
    result = copy.deepcopy(base)
    for key, value in changes.items():
        result[key] = merged(result[key], value) if isinstance(result.get(key), dict) and isinstance(
            value, dict) else copy.deepcopy(value)
    return result


def tramontane(*arguments, stdin=None, timeout=60, **options):
    """Runs the program to its end: (exit status, standard output, standard error)."""
    done = subprocess.run([str(BIN / "tramontane"), *map(str, arguments)], input=stdin, timeout=timeout,
                          stdin=None if stdin is not None else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


class TestCase(unittest.TestCase):
    """A scratch folder with small data sets, removed at the end unless the test failed."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tramontane-test-"))
        self.addCleanup(self.remove_folder)

    def remove_folder(self):
        if os.environ.get("TRAMONTANE_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def make_tasks(self, train=200, evaluation=16, sft=64):
        status, out, err = tramontane("make-tasks", "--out", self.folder / "data", "--train", train, "--eval",
                                      evaluation, "--sft", sft, "--kinds", "addition")
        self.assertEqual(status, 0, out + err)

    def write_config(self, changes=None, name="config.yaml"):
        data = self.folder / "data"
        places = {"run": {"output_dir": str(self.folder / "runs")},
                  "data": {"train": str(data / "train.jsonl"), "eval": str(data / "eval.jsonl")}}
        config = merged(merged(TINY_RUN, places), changes or {})
        path = self.folder / name
        path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        return path

    def assert_error(self, arguments, *words, **options):
        """The command fails with exit status 1 and one JSON error that has all the words in it."""
        status, out, err = tramontane(*arguments, "--json", **options)
        self.assertEqual(status, 1, out + err)
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        errors = [line["error"] for line in lines if "error" in line]
        self.assertEqual(len(errors), 1, out + err)
        self.assertTrue(errors[0]["code"] and errors[0]["where"], errors)
        for word in words:
            self.assertIn(str(word), errors[0]["message"])
        return errors[0]


class SmallDisk:
    """A file system of a test's own at `folder`, which can be filled. Needs the right to mount."""

    def __init__(self, test, folder, size_kib):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.filler = folder, folder / "filler"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)],
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            test.skipTest(f"cannot mount a small disk: {done.stderr.strip()}")
        test.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=False)

    def resize(self, size_kib):
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(self.folder)], check=True)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)) == 4096:
                    pass
            except OSError:
                pass

    def make_room(self):
        self.filler.unlink()


class Run:
    """A `tramontane run --json` in the background; a context manager that leaves nothing behind."""

    def __init__(self, config, *arguments, binary=None):
        self.events, self.errors = [], []
        self.changed = threading.Condition()
        self.process = subprocess.Popen([str(binary or BIN / "tramontane"), "run", str(config), "--json",
                                         *map(str, arguments)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.readers = [threading.Thread(target=self.read_events, daemon=True),
                        threading.Thread(target=self.read_errors, daemon=True)]
        for reader in self.readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        for reader in self.readers:
            reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()

    def read_events(self):
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "unreadable", "line": line}
            with self.changed:
                self.events.append(event)
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def story(self):
        return "".join(json.dumps(event)[:300] + "\n" for event in self.events[-30:]) + "".join(
            self.errors[-30:])

    def wait_for(self, fits, timeout):
        """The first event, past ones included, for which fits(event) holds."""
        deadline, seen = time.monotonic() + timeout, 0
        with self.changed:
            while True:
                for event in self.events[seen:]:
                    if fits(event):
                        return event
                seen = len(self.events)
                ended = self.process.poll() is not None and not self.readers[0].is_alive()
                left = deadline - time.monotonic()
                if left <= 0 or ended:
                    raise AssertionError(("run ended" if ended else "timed out") + " before the event:\n"
                                         + self.story())
                self.changed.wait(min(left, 0.5))

    def wait_for_step(self, step, timeout=90):
        return self.wait_for(lambda e: e.get("event") == "step" and e["step"] >= step, timeout)

    def finish(self, timeout):
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("the run did not end:\n" + self.story()) from None
        for reader in self.readers:
            reader.join(10)
        return status

    @property
    def run_dir(self):
        return pathlib.Path(self.wait_for(lambda e: e.get("event") == "run", 20)["run_dir"])

    def pid_of(self, name, timeout=30):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for process in json.loads((self.run_dir / "endpoints.json").read_text())["processes"]:
                if process["name"] == name and process["pid"] > 0:
                    return process["pid"]
            time.sleep(0.1)
        raise AssertionError(f"{name} is not running:\n" + self.story())

    def signal(self, name, number):
        os.kill(self.pid_of(name), number)

    def kill(self, name):
        self.signal(name, signal.SIGKILL)

    def error(self):
        """The one error that the run ended with."""
        errors = [event["error"] for event in self.events if "error" in event]
        if len(errors) != 1:
            raise AssertionError(f"{len(errors)} errors:\n" + self.story())
        return errors[0]

    def steps(self):
        return [event["step"] for event in self.events if event.get("event") == "step"]


def main():
    unittest.main(verbosity=2)
