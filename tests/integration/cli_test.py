"""The command line on its own: shapes of output, and bad input of every kind."""
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import unittest

from harness import BIN, SOURCE, TINY_MODEL, TOKENIZER, Run, SmallDisk, TestCase, main, tramontane


class Interface(TestCase):
    def test_help_names_every_command(self):
        status, out, _ = tramontane("--help")
        self.assertEqual(status, 0)
        for command in ("run", "sft", "eval", "generate", "score", "tokenize", "template", "loss", "grade",
                        "status", "validate", "doctor", "plot", "summary", "make-tasks", "init-model", "serve",
                        "verifier", "pause", "unpause"):
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
        for config in sorted(SOURCE.glob("examples/*/*.yaml")):
            status, _, err = tramontane("run", config, "--dry-run", cwd=SOURCE)
            self.assertEqual(status, 0, f"{config}: {err}")

    def test_verifier_becomes_the_packages_command_line(self):
        python = self.folder / "venv/bin/python"
        environment = {**os.environ, "TRAMONTANE_PYTHON_VERIFIER": str(python.parents[1])}
        status, out, err = tramontane("verifier", "test", "x.py", env=environment)
        self.assertEqual(status, 1, out)
        self.assertIn("make-python-verifier.sh", err)
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
        python.chmod(0o755)
        status, out, err = tramontane("verifier", "validate", "x.py", "--data", "a b.jsonl", "--help",
                                      env=environment)
        self.assertEqual((status, out), (7, "-m tramontane_verifier validate x.py --data a b.jsonl --help\n"), err)

    def test_torch_stays_out_of_this_program_and_the_verifier(self):
        for name in ("tramontane", "tramontane-verifier"):
            listed = subprocess.run(["ldd", BIN / name], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertNotIn("torch", listed)
            self.assertNotIn("libc10", listed)

    def test_the_container_file_installs_what_the_programs_link(self):
        text = (SOURCE / "deploy/Containerfile").read_text().split("\nFROM ")[-1]
        installed = set(re.findall(r"[a-z0-9][a-z0-9.+-]+", text.split("install -y")[1].split("&&")[0]))
        while True:  # and what those depend on
            answer = subprocess.run(["dpkg-query", "-W", "-f", "${Depends}\\n", *sorted(installed)], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
            more = set(re.findall(r"(?:^|[,|] )\s*([a-z0-9][a-z0-9.+-]+)", answer, re.MULTILINE)) - installed
            if not more:
                break
            installed |= more
        linked = subprocess.run(["ldd", *BIN.glob("tramontane*")], stdout=subprocess.PIPE, text=True,
                                check=True).stdout
        files = {os.path.basename(os.path.realpath(path)) for path in re.findall(r"=> (/(?:usr/)?lib/\S+)", linked)}
        answer = subprocess.run(["dpkg", "-S", *("*/" + file for file in files)], stdout=subprocess.PIPE,
                                text=True, check=True).stdout
        owners = {}
        for package, path in re.findall(r"(?m)^([^:,]+):\S* (\S+)$", answer):
            owners.setdefault(os.path.basename(path), set()).add(package)
        self.assertEqual({file: owners.get(file) for file in files
                          if not installed.intersection(owners.get(file, ()))}, {})

    def test_doctor_finds_this_machine_fit(self):
        status, out, _ = tramontane("doctor", "--json")
        self.assertEqual(status, 0, out)
        checks = {check["check"]: check for check in json.loads(out)["checks"]}
        self.assertTrue(all(check["result"] != "FAILED" for check in checks.values()))
        self.assertIn("tier", checks["sandbox"]["detail"])

    def test_validate_counts_rows_by_verifier(self):
        self.make_tasks(train=50, evaluation=8)
        status, out, err = tramontane("validate", self.write_config(), "--json")
        self.assertEqual(status, 0, out + err)
        files = json.loads(out)["files"]
        self.assertEqual([file["rows"] for file in files], [50, 8])
        self.assertEqual(files[0]["rows_by_verifier"], {"math": 50})

    def test_the_patch_of_the_documentation_is_graded_and_nothing_else_is_said(self):
        page = (SOURCE / "docs/sandbox.md").read_text()
        task = json.loads(page.split("## Patches of repositories")[1].split("```json\n")[1].split("```")[0])
        wrong = task["patch"].replace("a + b", "b - a")
        items = [{"gold": json.dumps(task), "answer": patch} for patch in (task["patch"], wrong, "no idea")]
        status, out, err = tramontane("grade", "--verifier", "patch", stdin=json.dumps({"items": items}))
        self.assertEqual(status, 0, out + err)
        verdicts = json.loads(out)["verdicts"]
        self.assertEqual([verdict["score"] for verdict in verdicts], [1, 0.5, 0], verdicts)

    def test_tokenize_and_back(self):
        texts = ["123+45=", "<think>ü</think>"]
        _, out, err = tramontane("tokenize", "--model", TOKENIZER, "--json", stdin=json.dumps({"texts": texts}))
        ids = json.loads(out)["ids"]
        self.assertEqual(len(ids), 2, err)
        _, out, _ = tramontane("tokenize", "--model", TOKENIZER, "--json", stdin=json.dumps({"ids": ids}))
        self.assertEqual(json.loads(out)["texts"], texts)


class Presets(TestCase):
    def presets(self, *arguments):
        status, out, err = tramontane("presets", *arguments, "--json")
        self.assertEqual(status, 0, out + err)
        return json.loads(out)

    def test_list_show_and_diff(self):
        listed = self.presets()["presets"]
        files = sorted(path.stem for path in (SOURCE / "presets").glob("*.yaml"))
        self.assertEqual([preset["name"] for preset in listed], files)
        self.assertTrue(all(preset["source"] for preset in listed))
        shown = self.presets("dapo")
        self.assertEqual(shown["config"]["algorithm"]["objective"]["clip_high"], 0.28)
        changes = self.presets("--diff", "raft", "raftpp")["changes"]
        self.assertEqual(changes["algorithm.objective.kind"], ["nll", "ppo_clip"])
        self.assertEqual(changes["algorithm.objective.clip_low"], [None, 0.2])
        self.assertNotIn("trainer.groups_per_step", changes)
        status, out, _ = tramontane("presets", "dapo")
        self.assertEqual(status, 0)
        self.assertIn("algorithm.objective.clip_high: 0.28", out)

    def test_each_is_the_base_of_a_dry_run_and_the_file_wins(self):
        self.make_tasks()
        config = self.write_config({"algorithm": {}})
        for preset in self.presets()["presets"]:
            status, out, err = tramontane("run", config, "preset=" + preset["name"], "schedules={}",
                                          "distill.teacher=/teacher", "--dry-run", "--json")
            self.assertEqual(status, 0, f"{preset['name']}: {out}{err}")
            resolved = json.loads(out)["config"]
            self.assertEqual(resolved["preset"], preset["name"])
            self.assertEqual(resolved["rollout"]["max_new_tokens"], 24)

    def test_unknown_names_and_what_no_run_can_do_are_refused(self):
        self.assert_error(["presets", "dabo"], "dabo", "dapo")
        self.make_tasks()
        config = self.write_config()
        self.assert_error(["run", config, "algorithm.advantage.baseline=value"],
                          "algorithm.auxiliary.value_coefficient", "critic_learns")
        self.assert_error(["run", config, "preset=kimi_k15", "rollout.samples_per_group=1"], "group")
        self.assert_error(["run", config, "preset=orz", "rollout.samples_per_group=1",
                           "reward={terms: {length: {term: kimi_length}}}"], "reward.terms.length",
                          "group_reward_needs_a_group")
        self.assertFalse((self.folder / "runs").exists())


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

    def test_every_tool_refuses_bad_arguments(self):
        # Those that another binary does, too: by exec, with its own parser.
        for tool, needed in (("score", "--model"), ("generate", "--model"), ("eval", "--model"), ("make-data", "--model"),
                             ("bench generate", "--model"), ("tokenize", "--model"), ("template", "--model"),
                             ("init-model", "--out"), ("loss", None), ("grade", None), ("serve", None)):
            words = tool.split()
            error = self.assert_error([*words, "--bogus", *([needed, self.folder] if needed else [])])
            self.assertEqual(error["code"], "INVALID_ARGUMENT")
            self.assertRegex(error["message"], "--bogus|required", tool)
            self.assertIn(error["where"], tool)
            if needed:
                self.assert_error(words, needed)
                status, out, err = tramontane(*words)
                self.assertEqual((status, out), (1, ""), tool)
                self.assertIn(needed, err)
        self.assert_error(["score", "--model", self.folder, "--top", "many"], "--top")
        self.assert_error(["grade", "--verifier", "nobody"], "nobody", stdin='{"items": []}')

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
        lines = train.read_text().splitlines()
        row = json.loads(lines[0])
        train.write_text("\n".join([lines[1], json.dumps({**row, "answer": "\\frac{1}{"}), lines[2]]) + "\n")
        config = self.write_config()
        for command in ("validate", "run"):
            self.assert_error([command, config], "train.jsonl:2: answer")
        train.write_text("\n".join([lines[1], lines[2], json.dumps({**row, "verifier": "judge"})]) + "\n")
        for command in ("validate", "run"):
            self.assert_error([command, config], "train.jsonl:3: verifier", "judge")
        self.assertFalse((self.folder / "runs").exists())

    def test_a_row_that_asks_for_more_than_the_sandbox_gives(self):
        self.make_tasks()
        train = self.folder / "data/train.jsonl"
        row = {"prompt": "1+1=", "answer": json.dumps({"tests": [{"input": "", "output": "2"}]}), "verifier": "code",
               "params": {"time_limit_s": 31}}
        train.write_text(json.dumps(row) + "\n")
        code = {"verifiers": {"math": {"builtin": "math"}, "code": {"builtin": "code"}}}
        self.assert_error(["validate", self.write_config(code)], "train.jsonl:1", "params.time_limit_s",
                          "sandbox.max_time_limit_s")
        config = self.write_config({**code, "sandbox": {"max_time_limit_s": 40}})
        status, out, err = tramontane("validate", config, "--json")
        self.assertEqual(status, 0, out + err)

    def test_an_example_longer_than_the_model_can_hold(self):
        self.make_tasks()
        sft = self.folder / "data/sft.jsonl"
        sft.write_text(json.dumps({"prompt": "1+1=", "completion": "1" * 300}) + "\n")
        config = self.write_config({"sft": {"data": str(sft), "steps": 1}})
        self.assert_error(["validate", config], "sft.jsonl", "256 positions")

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


def split_in_two_and_lose_one(model):
    """Weights of which half the tensors should be in a shard that is not there."""
    weights = model / "model.safetensors"
    header = json.loads(weights.read_bytes()[8:8 + int.from_bytes(weights.read_bytes()[:8], "little")])
    names = [name for name in header if name != "__metadata__"]
    weights.rename(model / "model-00001-of-00002.safetensors")
    shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": shards}))


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

    def test_a_sound_ones_training_steps_are_measured(self):
        status, out, err = tramontane("bench", "train", "--model", self.model, "--groups", 4, "--samples", 4,
                                      "--steps", 2, "--json")
        self.assertEqual(status, 0, out + err)
        report = json.loads(out)
        self.assertEqual(report["steps"], 2)
        self.assertGreater(report["tokens_per_second"], 0)
        self.assertIn("forward_backward", report["phase_share"])
        self.assertGreater(report["peak_memory_mib"], report["weight_mib"])
        self.assert_error(["bench", "train", "--model", self.folder / "nothing"], "nothing")

    def test_eval_gives_graders_their_verifiers_params(self):
        data = self.folder / "data.jsonl"
        # Found everywhere, and hardly ever all there is.
        rows = [{"prompt": "1+1=", "answer": "x*", "verifier": "match"},
                {"prompt": "1+1=", "answer": "x*", "verifier": "match", "params": {"match": "full"}}]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for params, accuracy in (({}, 0), ({"match": "search"}, 0.5)):
            config = self.write_config({"reward": {"require_think": False},
                                        "verifiers": {"math": {"builtin": "math"},
                                                      "match": {"builtin": "regex", "params": params}}})
            status, out, err = tramontane("eval", "--model", self.model, "--data", data, "--config", config,
                                          "--max-new-tokens", 8, "--json")
            self.assertEqual(status, 0, out + err)
            self.assertEqual(json.loads(out)["accuracy"], accuracy, out)

    def test_a_thinking_block_holds_in_eval_and_make_data(self):
        data, out_path = self.folder / "data.jsonl", self.folder / "rows.jsonl"
        data.write_text(json.dumps({"prompt": "1+1=", "answer": r"(?s)<think>\s*</think>.*", "verifier": "regex",
                                    "params": {"match": "full"}}) + "\n")
        config = self.write_config({"reward": {"gate": False, "require_think": False, "think_open": "",
                                               "think_close": "", "terms": {"accuracy": {}}},
                                    "verifiers": {"math": {"builtin": "math"}, "regex": {"builtin": "regex"}}})
        given = ("--model", self.model, "--data", data, "--config", config, "--max-new-tokens", 24, "--json")
        make = ("make-data", *given, "--out", out_path, "--kind", "values", "--samples", 2, "--max-steps", 1)
        for thinking, share in (((), 0), (("--thinking", '{"budget": 0}'), 1)):
            status, out, err = tramontane("eval", *given, *thinking)
            self.assertEqual(status, 0, out + err)
            self.assertEqual(json.loads(out)["accuracy"], share, out)
            status, out, err = tramontane(*make, *thinking)
            self.assertEqual(status, 0, out + err)
            rows = [json.loads(line) for line in out_path.read_text().splitlines()]
            self.assertEqual([row["value"] for row in rows], [share])
            self.assertEqual(rows[0]["completion"].startswith("<think>\n\n</think>\n\n"), share == 1)
        out_path.unlink()
        for command in (("eval", *given), make):
            for thinking, word in (("off", "--thinking"), ("[1]", "--thinking"), ('{"bugdet": 1}', "thinking.bugdet"),
                                   ('{"budget": 500}', "thinking.budget")):
                self.assert_error([*command, "--thinking", thinking], word)
        self.assertFalse(out_path.exists())

    def test_truncated_safetensors(self):
        weights = self.model / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 100)
        self.score("model.safetensors")

    def test_missing_weights(self):
        (self.model / "model.safetensors").unlink()
        self.score("safetensors")

    def test_missing_shard(self):
        split_in_two_and_lose_one(self.model)
        self.score("model-00002-of-00002.safetensors")

    def test_config_that_names_an_unknown_family(self):
        config = json.loads((self.model / "config.json").read_text())
        config.update(model_type="gpt2", architectures=["GPT2LMHeadModel"])
        (self.model / "config.json").write_text(json.dumps(config))
        self.score("gpt2")


def processes_of(folder):
    """Command lines of the living processes that name the folder, or a path in it."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(process.name) != os.getpid():
            found.append(line)
    return found


class BadSurroundings(TestCase):
    """The run directory, ports and Redis: refused with a reason, nothing left running."""

    def setUp(self):
        super().setUp()
        self.make_tasks()

    def assert_nothing_is_trained(self, config, *words):
        """The run ends with one error that has the words in it; nothing was sampled, nobody is left."""
        error = self.assert_error(["run", config], *words, timeout=180)
        run_dir = self.folder / "runs/test"
        self.assertEqual(processes_of(run_dir), [])
        self.assertFalse((run_dir / "rollouts").exists())
        self.assertEqual([str(path) for path in run_dir.rglob("*.tmp*")], [])
        return error

    def assert_run_never_began(self, config, *words):
        """The same, and before anything was made that a run could go on from."""
        error = self.assert_nothing_is_trained(config, *words)
        self.assertFalse((self.folder / "runs/test/checkpoints").exists())
        return error

    def make_model(self):
        model = self.folder / "model"
        status, out, err = tramontane("init-model", "--tokenizer", TOKENIZER, "--out", model, "--json",
                                      stdin=json.dumps(TINY_MODEL))
        self.assertEqual(status, 0, out + err)
        return model

    def config_of(self, model):
        config = self.write_config()
        document = json.loads(config.read_text())
        document["model"] = {"path": str(model)}
        config.write_text(json.dumps(document))
        return config

    def test_a_row_without_answer(self):
        train = self.folder / "data/train.jsonl"
        lines = train.read_text().splitlines()
        lines[2] = json.dumps({key: value for key, value in json.loads(lines[2]).items() if key != "answer"})
        train.write_text("\n".join(lines) + "\n")
        error = self.assert_run_never_began(self.write_config(), "train.jsonl:3", "answer")
        self.assertEqual(error["code"], "INVALID_ARGUMENT")

    def test_a_model_with_truncated_weights(self):
        model = self.make_model()
        os.truncate(model / "model.safetensors", 5000)
        self.assert_run_never_began(self.config_of(model), "model.safetensors")

    def test_a_model_without_one_of_its_shards(self):
        model = self.make_model()
        split_in_two_and_lose_one(model)
        self.assert_run_never_began(self.config_of(model), "model-00002-of-00002.safetensors")

    def test_a_model_whose_tokenizer_is_none(self):
        model = self.make_model()
        (model / "tokenizer.json").write_text('{"model": "no"}')
        self.assert_run_never_began(self.config_of(model), "tokenizer.json")

    def test_unreachable_redis(self):
        config = self.write_config({"redis": {"url": "redis://127.0.0.1:1/0"}})
        self.assert_error(["run", config], "redis.url", "127.0.0.1:1")

    def taken_port(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return taken.getsockname()[1]

    def test_trainer_port_in_use(self):
        address = f"127.0.0.1:{self.taken_port()}"
        self.assert_run_never_began(self.write_config({"trainer": {"bind": address}}), "trainer", address, "in use")

    def test_generator_port_in_use(self):
        address = f"127.0.0.1:{self.taken_port()}"
        self.assert_nothing_is_trained(self.write_config({"generator": {"bind": address}}), "generator-0", address,
                                       "in use")

    def test_http_port_in_use(self):
        port = self.taken_port()
        self.assert_nothing_is_trained(self.write_config({"generator": {"http_port": port}}), "generator-0", port)

    def test_metrics_port_in_use(self):
        address = f"127.0.0.1:{self.taken_port()}"
        self.assert_run_never_began(self.write_config({"metrics": {"bind": address}}), "metrics.bind", address)

    def test_a_generator_without_a_place_for_its_groups(self):
        resolved = json.loads(self.config_of(self.make_model()).read_text())
        resolved["verifiers"] = {"math": {"address": "127.0.0.1:1"}}
        resolved["redis"] = {"url": "redis://127.0.0.1:1/0"}
        (self.folder / "resolved.json").write_text(json.dumps(resolved))
        run_dir = self.folder / "run"
        run_dir.mkdir()
        (run_dir / "blobs").write_text("in the way")
        done = subprocess.run([BIN / "tramontane-generator", "serve", "--config", self.folder / "resolved.json",
                               "--run-dir", run_dir, "--trainer", "127.0.0.1:1"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([line["event"] for line in said], ["failed"])
        self.assertIn(str(run_dir / "blobs"), said[0]["message"])

    def test_unwritable_run_directory(self):
        file = self.folder / "runs"
        file.write_text("in the way")
        self.assert_error(["run", self.write_config()], str(file))

    def test_a_disk_that_is_full_from_the_start(self):
        disk = SmallDisk(self, self.folder / "runs", 256)
        disk.fill()
        error = self.assert_error(["run", self.write_config()], "runs/test/configs/config.json", "disk full")
        self.assertEqual(error["code"], "RESOURCE_EXHAUSTED")

    def test_a_disk_without_room_for_the_first_model(self):
        runs = self.folder / "runs"
        SmallDisk(self, runs, 96)
        error = self.assert_error(["run", self.write_config()], "trainer", str(runs), "disk full", timeout=120)
        self.assertEqual(error["code"], "RESOURCE_EXHAUSTED")
        self.assertEqual(list((runs / "test/init").rglob("*")), [])

    def test_no_file_may_grow_any_more(self):
        # As good as a full disk, and without the right to mount.
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        self.assert_error(["run", self.write_config()], "file size limit", timeout=180, preexec_fn=limit)


class VersionSkew(TestCase):
    """A real program of another protocol among ours: the run ends at once, naming it and both numbers."""

    def setUp(self):
        super().setUp()
        self.make_tasks()

    def run_with_other(self, other):
        programs = self.folder / "bin"
        programs.mkdir()
        shutil.copy2(BIN / "tramontane", programs)  # it looks for the others beside itself
        for name in ("tramontane-trainer", "tramontane-generator", "tramontane-verifier"):
            (programs / name).symlink_to((BIN / "other_protocol" if name == other else BIN) / name)
        with Run(self.write_config(), binary=programs / "tramontane") as run:
            self.assertEqual(run.finish(90), 1, run.story())
            self.assertEqual(run.steps(), [])
            journal = (run.run_dir / "journal.jsonl").read_text()
        self.assertNotIn('"kind":"batch"', journal)
        error = run.error()
        self.assertEqual(error["code"], "FAILED_PRECONDITION", error)
        self.assertIn("protocol_version differs", error["message"])
        return error["message"]

    def test_a_generator_of_another_protocol(self):
        message = self.run_with_other("tramontane-generator")
        self.assertRegex(message, r"^generator-0: .*theirs 41 .*ours 1 ")

    def test_a_verifier_of_another_protocol(self):
        message = self.run_with_other("tramontane-verifier")
        self.assertRegex(message, r"verifier math at 127\.0\.0\.1:\d+: .*theirs 1 .*ours 41 ")

    def test_a_trainer_of_another_protocol(self):
        message = self.run_with_other("tramontane-trainer")
        self.assertRegex(message, r"^generator-0: .*theirs 1 .*ours 41 ")

    def test_every_program_says_what_it_speaks(self):
        for folder, number in ((BIN, 1), (BIN / "other_protocol", 41)):
            for name in ("tramontane", "tramontane-trainer", "tramontane-generator", "tramontane-verifier",
                         "tramontane-sandbox"):
                if (folder / name).exists():
                    said = subprocess.run([folder / name, "--version"], stdout=subprocess.PIPE, text=True, check=True)
                    self.assertRegex(said.stdout, rf"^{name} \d+\.\d+\.\d+ \(protocol {number}\)")

    def test_doctor_knows_a_stranger_beside_it(self):
        programs = self.folder / "bin"
        programs.mkdir()
        shutil.copy2(BIN / "tramontane", programs)
        for name in ("tramontane-trainer", "tramontane-generator", "tramontane-sandbox", "tramontane-jail"):
            (programs / name).symlink_to(BIN / name)
        stranger = programs / "tramontane-verifier"
        stranger.write_text("#!/bin/sh\necho 'tramontane-verifier 0.1.0 (protocol 1), the Python package'\n")
        stranger.chmod(0o755)
        done = subprocess.run([programs / "tramontane", "doctor", "--json"], stdout=subprocess.PIPE, text=True,
                              check=False)
        self.assertEqual(done.returncode, 1)
        answer = json.loads(done.stdout)
        self.assertEqual((answer["error"]["code"], answer["error"]["where"]), ("FAILED_PRECONDITION", "doctor"))
        self.assertIn("the Python package", answer["error"]["message"])
        failed = [check for check in answer["checks"] if check["result"] == "FAILED"]
        self.assertEqual([check["check"] for check in failed], ["binary tramontane-verifier"])
        self.assertIn("the Python package", failed[0]["detail"])

    def test_the_built_in_verifier_sends_python_files_to_the_package(self):
        done = subprocess.run([BIN / "tramontane-verifier", "serve", "--name", "math", "mine.py"],
                              stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("python3 -m tramontane_verifier serve mine.py", done.stderr + done.stdout)


if __name__ == "__main__":
    main()
