"""The command line on its own: shapes of output, and bad input of every kind."""
import json
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import unittest

from harness import BIN, SOURCE, TINY_MODEL, TOKENIZER, TestCase, main, tramontane


class Interface(TestCase):
    def test_help_names_every_command(self):
        status, out, _ = tramontane("--help")
        self.assertEqual(status, 0)
        for command in ("run", "sft", "eval", "generate", "score", "tokenize", "template", "loss", "grade",
                        "status", "validate", "doctor", "plot", "summary", "make-tasks", "init-model"):
            self.assertRegex(out, rf"(?m)^  {command}\b")

    def test_dry_run_prints_configuration_and_derived_numbers_and_leaves_nothing(self):
        self.make_tasks()
        config = self.write_config()
        status, out, err = tramontane("run", config, "trainer.groups_per_step=8", "--dry-run", "--json")
        self.assertEqual(status, 0, err)
        document = json.loads(out)
        self.assertEqual(document["config"]["trainer"]["groups_per_step"], 8)
        self.assertEqual(document["derived"]["samples_per_step"], 32)
        self.assertFalse((self.folder / "runs").exists())

    def test_a_dry_run_is_a_configuration_again(self):
        self.make_tasks()
        _, out, _ = tramontane("run", self.write_config(), "--dry-run", "--json")
        again = self.folder / "again.json"
        again.write_text(json.dumps(json.loads(out)["config"]))
        _, second, err = tramontane("run", again, "--dry-run", "--json")
        self.assertEqual(json.loads(out), json.loads(second), err)

    def test_reference_pages_are_up_to_date(self):
        for command, page in (("config-reference", "configuration.md"), ("metrics-reference", "metrics.md")):
            status, out, err = tramontane(command)
            self.assertEqual(status, 0, err)
            self.assertEqual(out, (SOURCE / "docs" / page).read_text(),
                             f"run: tramontane {command} > docs/{page}")

    def test_examples_parse(self):
        for config in sorted(SOURCE.glob("examples/*/config.yaml")):
            status, _, err = tramontane("run", config, "--dry-run", cwd=SOURCE)
            self.assertEqual(status, 0, f"{config}: {err}")

    def test_torch_stays_out_of_this_program_and_the_verifier(self):
        for name in ("tramontane", "tramontane-verifier"):
            listed = subprocess.run(["ldd", BIN / name], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertNotIn("torch", listed)
            self.assertNotIn("libc10", listed)

    def test_doctor_finds_this_machine_fit(self):
        status, out, _ = tramontane("doctor", "--json")
        self.assertEqual(status, 0, out)
        self.assertTrue(all(check["result"] != "FAILED" for check in json.loads(out)["checks"]))

    def test_validate_counts_rows_by_verifier(self):
        self.make_tasks(train=50, evaluation=8)
        status, out, err = tramontane("validate", self.write_config(), "--json")
        self.assertEqual(status, 0, out + err)
        files = json.loads(out)["files"]
        self.assertEqual([file["rows"] for file in files], [50, 8])
        self.assertEqual(files[0]["rows_by_verifier"], {"math": 50})

    def test_tokenize_and_back(self):
        texts = ["123+45=", "<think>ü</think>"]
        _, out, err = tramontane("tokenize", "--model", TOKENIZER, "--json", stdin=json.dumps({"texts": texts}))
        ids = json.loads(out)["ids"]
        self.assertEqual(len(ids), 2, err)
        _, out, _ = tramontane("tokenize", "--model", TOKENIZER, "--json", stdin=json.dumps({"ids": ids}))
        self.assertEqual(json.loads(out)["texts"], texts)


class BadInput(TestCase):
    def test_unknown_key_is_named_with_its_neighbour(self):
        self.make_tasks()
        config = self.write_config({"trainer": {"group_per_step": 4}})
        self.assert_error(["run", config], "trainer.group_per_step", "groups_per_step")

    def test_bad_override_is_named(self):
        self.make_tasks()
        self.assert_error(["run", self.write_config(), "trainer.threads=many"], "trainer.threads")

    def test_missing_configuration_file(self):
        self.assert_error(["run", self.folder / "nothing.yaml"], "nothing.yaml")

    def test_unknown_command_and_missing_argument(self):
        self.assert_error(["fly"], "fly")
        self.assert_error(["run"], "config")

    def test_row_without_answer_is_named_by_line(self):
        self.make_tasks()
        train = self.folder / "data/train.jsonl"
        lines = train.read_text().splitlines()
        row = json.loads(lines[6])
        del row["answer"]
        lines[6] = json.dumps(row)
        train.write_text("\n".join(lines) + "\n")
        self.assert_error(["validate", self.write_config()], "train.jsonl:7", "answer")

    def test_answer_that_the_grader_cannot_read(self):
        self.make_tasks()
        train = self.folder / "data/train.jsonl"
        row = json.loads(train.read_text().splitlines()[0])
        row["answer"] = "1/2/3"
        train.write_text(json.dumps(row) + "\n")
        self.assert_error(["validate", self.write_config()], "train.jsonl", "answer")

    def test_tokenizer_that_is_none(self):
        self.make_tasks()
        fake = self.folder / "tokenizer"
        fake.mkdir()
        (fake / "tokenizer.json").write_text('{"model": "no"')
        config = self.write_config({"model": {"init_tokenizer": str(fake)}})
        self.assert_error(["validate", config], "tokenizer.json")
        self.assert_error(["tokenize", "--model", fake], "tokenizer.json", stdin='{"texts": ["a"]}')

    def test_document_that_is_no_json(self):
        self.assert_error(["tokenize", "--model", TOKENIZER], "JSON", stdin="{")

    def test_status_of_what_is_no_run(self):
        self.assert_error(["status", self.folder], "endpoints.json")

    def test_name_in_use_blocks(self):
        self.make_tasks()
        config = self.write_config()
        run = self.folder / "runs/test/configs"
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
        self.assert_error(["run", config], "--resume")

    def test_resume_without_a_run(self):
        self.make_tasks()
        self.assert_error(["run", self.write_config(), "--resume"], "no run to resume")


class BadModel(TestCase):
    """Damaged checkpoints, through `score`."""

    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        status, out, err = tramontane("init-model", "--tokenizer", TOKENIZER, "--out", self.model, "--json",
                                      stdin=json.dumps(TINY_MODEL))
        self.assertEqual(status, 0, out + err)

    def score(self, *words):
        self.assert_error(["score", "--model", self.model], *words, stdin='{"tokens": [[1, 2, 3]]}')

    def test_a_sound_one_scores(self):
        status, out, err = tramontane("score", "--model", self.model, "--json", stdin='{"tokens": [[1, 2, 3]]}')
        self.assertEqual(status, 0, out + err)
        self.assertEqual([len(row) for row in json.loads(out)["logprobs"]], [2])

    def test_truncated_safetensors(self):
        weights = self.model / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 100)
        self.score("model.safetensors")

    def test_missing_weights(self):
        (self.model / "model.safetensors").unlink()
        self.score("safetensors")

    def test_missing_shard(self):
        weights = self.model / "model.safetensors"
        header = json.loads(weights.read_bytes()[8:8 + int.from_bytes(weights.read_bytes()[:8], "little")])
        names = [name for name in header if name != "__metadata__"]
        weights.rename(self.model / "model-00001-of-00002.safetensors")
        shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
        (self.model / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": 0}, "weight_map": shards}))
        self.score("model-00002-of-00002.safetensors")

    def test_config_that_names_an_unknown_family(self):
        config = json.loads((self.model / "config.json").read_text())
        config.update(model_type="gpt2", architectures=["GPT2LMHeadModel"])
        (self.model / "config.json").write_text(json.dumps(config))
        self.score("gpt2")


class BadSurroundings(TestCase):
    """The run directory, ports and Redis: refused with a reason, nothing left running."""

    def setUp(self):
        super().setUp()
        self.make_tasks()

    def test_unreachable_redis(self):
        config = self.write_config({"redis": {"url": "redis://127.0.0.1:1/0"}})
        self.assert_error(["run", config], "redis.url", "127.0.0.1:1")

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            config = self.write_config({"trainer": {"bind": address}})
            self.assert_error(["run", config], "trainer", address, timeout=120)

    def test_unwritable_run_directory(self):
        file = self.folder / "runs"
        file.write_text("in the way")
        self.assert_error(["run", self.write_config()], str(file))

    def test_full_disk_in_the_run_directory(self):
        runs = self.folder / "runs"
        runs.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", runs],
                                 stderr=subprocess.DEVNULL, check=False).returncode == 0
        if mounted:
            self.addCleanup(subprocess.run, ["umount", "-l", runs], check=False)
            self.assert_error(["run", self.write_config()], "disk full", timeout=180)
            for checkpoint in runs.glob("test/checkpoints/step_*"):  # whole ones or none
                self.assertTrue((checkpoint / "manifest.json").exists(), checkpoint)
            return
        # Without the right to mount: no file may grow past 64 KiB, which is as good as a full disk.
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        status, out, err = tramontane("run", self.write_config(), "--json", timeout=180, preexec_fn=limit)
        self.assertEqual(status, 1, out + err)


if __name__ == "__main__":
    main()
