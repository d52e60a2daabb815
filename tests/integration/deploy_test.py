"""What deploy/ holds against itself and the programs. promtool (Debian: prometheus) checks more where it
is installed."""
import json
import re
import shutil
import subprocess
import unittest
import urllib.request

from harness import BIN, SOURCE, TestCase, main

DEPLOY = SOURCE / "deploy"
PROMETHEUS = DEPLOY / "prometheus/prometheus.yml"
TARGETS = "prometheus_targets.json"  # cli/run_dir.cc; the fake run below is written as it writes them
MOUNTED_RUN = "/run/tramontane"


def yaml_of(test, path):
    try:
        import yaml  # Debian: python3-yaml
    except ImportError:
        test.skipTest("no yaml module")
    return yaml.safe_load(path.read_text())


def promtool(test, *arguments, **options):
    program = shutil.which("promtool")
    if program is None:
        test.skipTest("promtool is not installed")
    done = subprocess.run([program, "check", *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False, **options)
    test.assertEqual(done.returncode, 0, done.stdout)
    return done.stdout


class Prometheus(TestCase):
    def test_the_compose_file_mounts_what_its_commands_name(self):
        services = yaml_of(self, DEPLOY / "compose.yaml")["services"]
        self.assertEqual(set(services), {"prometheus"})
        prometheus = services["prometheus"]
        self.assertRegex(prometheus["image"], r":v\d+\.\d+\.\d+$")
        mounts = dict(re.fullmatch(r"(.+?):(/[^:]*)(?::ro)?", mount).groups()[::-1]
                      for mount in prometheus["volumes"])
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in prometheus["command"])
        self.assertEqual((DEPLOY / mounts[flags["config.file"]]).resolve(), PROMETHEUS.resolve())
        self.assertIn(flags["storage.tsdb.path"], mounts)
        self.assertTrue(flags["web.listen-address"].startswith("127.0.0.1:"))
        self.assertRegex(mounts[MOUNTED_RUN], r"^\.\./\$\{RUN:\?.*\}$")

    def test_prometheus_looks_where_a_run_writes(self):
        jobs = yaml_of(self, PROMETHEUS)["scrape_configs"]
        files = [file for job in jobs for found in job["file_sd_configs"] for file in found["files"]]
        self.assertEqual(files, [f"{MOUNTED_RUN}/{TARGETS}"])
        self.assertIn(f'"/{TARGETS}"', (SOURCE / "cli/run_dir.cc").read_text())

    def test_promtool_takes_the_configuration_and_a_runs_targets(self):
        run = self.folder / "run"
        run.mkdir()
        labels = {"run": "r", "process": "trainer", "service": "trainer"}
        (run / TARGETS).write_text(json.dumps([{"targets": ["127.0.0.1:1"], "labels": labels}]))
        config = self.folder / "prometheus.yml"
        config.write_text(PROMETHEUS.read_text().replace(MOUNTED_RUN, str(run)))
        said = promtool(self, "config", config)
        self.assertIn("SUCCESS", said)
        self.assertNotIn("WARNING", said)

    def test_promtool_takes_what_a_process_exports(self):
        with subprocess.Popen([str(BIN / "tramontane-verifier"), "serve", "--name", "math", "--bind",
                               "127.0.0.1:0", "--metrics-bind", "127.0.0.1:0"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                address = json.loads(process.stdout.readline())["metrics_address"]
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
                    text = reply.read().decode()
            finally:
                process.terminate()
        for name in ("tramontane_verifier_results_total", "tramontane_process_memory_bytes"):
            self.assertIn(f"# HELP {name} ", text)
        promtool(self, "metrics", input=text)


if __name__ == "__main__":
    main()
