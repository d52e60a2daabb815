"""An environment of the SDK as a process, asked over gRPC like a generator would."""
import concurrent.futures
import json
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import grpc

from tramontane_verifier import contract
from tramontane_verifier.environment import Step, as_step, environment, load

WORLD = '''
from tramontane_verifier.environment import BadRow, Step, environment

import os, signal, subprocess, sys, time
LOADED = []

@environment(name="guess", version="1.2.0", max_episodes=MOST, idle_timeout_s=IDLE, call_timeout_s=LIMIT)
class Guess:
    def reset(self, row):
        if row["answer"] == "none":
            raise BadRow("no secret")
        if row["answer"] == "hang":
            time.sleep(1000)
        LOADED.append(row["answer"])  # a copy's own
        self.secret, self.steps = row["answer"], 0
        return [7, 8] if row["params"].get("ids") else "go"

    def step(self, action):
        self.steps += 1
        if action == "crash":
            raise RuntimeError("boom")
        if action == "nonsense":
            return Step(reward=float("nan"))
        if action == "fault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if action == "leave":
            sys.exit(3)
        if action == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "1000"])
            with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
                file.write(f"{os.getpid()} {child.pid}\\n")
            while True:
                time.sleep(1000)
        if action == "loaded":
            return Step(" ".join(LOADED))
        right = action == self.secret
        return Step("no", reward=float(right), done=right, correct=right, metrics={"steps": self.steps})
'''


class EnvironmentTest(unittest.TestCase):
    idle_s, limit_s, most = 600, 20, 3

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name) / "guess.py"
        file.write_text(WORLD.replace("IDLE", str(self.idle_s)).replace("LIMIT", str(self.limit_s))
                        .replace("MOST", str(self.most)))
        self.file = file
        self.process = subprocess.Popen([sys.executable, "-m", "tramontane_verifier", "environment", str(file)],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(self.stop)
        self.channel = grpc.insecure_channel(json.loads(self.process.stdout.readline())["address"])
        self.addCleanup(self.channel.close)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.process.stdout.close()

    def call(self, name, request, reply, service=contract.ENVIRONMENT):
        return self.channel.unary_unary(f"/{service}/{name}", request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=reply.FromString)(request, timeout=20)

    def reset(self, episode, answer="5", **params):
        request = contract.ResetRequest(episode_id=episode, answer=answer)
        if params:
            request.params.update(params)
        return self.call("Reset", request, contract.ResetReply)

    def step(self, episode, turn, action):
        return self.call("Step", contract.StepRequest(episode_id=episode, turn=turn, action=action),
                         contract.StepReply)

    def close(self, episode):
        self.call("Close", contract.CloseRequest(episode_id=episode), contract.CloseReply)

    def refused(self, code, function, *arguments):
        with self.assertRaises(grpc.RpcError) as raised:
            function(*arguments)
        self.assertEqual(raised.exception.code(), code, raised.exception.details())


class Episodes(EnvironmentTest):
    def test_an_episode_from_reset_to_close_with_every_call_twice(self):
        for _ in range(2):
            self.assertEqual(self.reset("a").observation.text, "go")
        for _ in range(2):
            first = self.step("a", 0, "4")
            self.assertEqual((first.observation.text, first.reward, first.done), ("no", 0, False))
        last = self.step("a", 1, "5")
        self.assertEqual((last.reward, last.done, last.correct), (1, True, True))
        self.assertEqual(dict(last.metrics), {"steps": 2})  # the repeat was no step
        for _ in range(2):
            self.close("a")
        self.refused(grpc.StatusCode.NOT_FOUND, self.step, "a", 2, "5")

    def test_rows_reach_reset_and_ids_are_observations(self):
        self.assertEqual(list(self.reset("a", ids=True).observation.tokens), [7, 8])
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.reset, "b", "none")
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.reset, "")

    def test_what_fails_is_an_error_and_never_a_reward(self):
        self.reset("a")
        self.refused(grpc.StatusCode.INTERNAL, self.step, "a", 0, "crash")
        self.refused(grpc.StatusCode.INTERNAL, self.step, "a", 0, "nonsense")
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, self.step, "a", 3, "5")
        self.assertEqual(self.step("a", 0, "5").reward, 1)  # the turn was not taken
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, self.reset, "a")

    def test_episodes_are_bounded(self):
        for name in "abc":
            self.reset(name)
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, self.reset, "d")
        self.close("b")
        self.reset("d")

    def test_it_says_who_it_is_and_refuses_another_protocol(self):
        request = contract.DescribeEnvironmentRequest()
        contract.set_handshake(request.handshake)
        reply = self.call("Describe", request, contract.EnvironmentDescription)
        self.assertEqual((reply.name, reply.version, reply.digest), ("guess", "1.2.0", load(str(self.file)).digest))
        request.handshake.protocol_version = 99
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, self.call, "Describe", request,
                     contract.EnvironmentDescription)
        self.reset("a")
        state = self.call("GetProcessState", contract.GetProcessStateRequest(), contract.ProcessState,
                          contract.CONTROL)
        self.assertEqual(state.detail["episodes"], 1)


def gone(pid):
    """Whether there is no such process, or nothing is left of it but its name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Hanging(EnvironmentTest):
    limit_s, most = 6, 64

    def state(self):
        return self.call("GetProcessState", contract.GetProcessStateRequest(), contract.ProcessState, contract.CONTROL)

    def pids(self, count):
        file, end = self.file.parent / "pids", time.monotonic() + 20
        while time.monotonic() < end:
            pids = file.read_text().split() if file.exists() else []
            if len(pids) >= count:
                return pids
            time.sleep(0.02)
        self.fail("no pids")

    def wait_gone(self, pids):
        end = time.monotonic() + 20
        while time.monotonic() < end and not all(map(gone, pids)):
            time.sleep(0.05)
        self.assertEqual([pid for pid in pids if not gone(pid)], [])

    def test_a_step_that_hangs_is_killed_and_blocks_nobody(self):
        """More of them at once than there are processors or threads; the others go on meanwhile."""
        for i in range(24):
            self.reset(f"bad-{i}")
        self.reset("good")
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            begun = time.monotonic()
            hung = [pool.submit(self.refused, grpc.StatusCode.ABORTED, self.step, f"bad-{i}", 0, "hang")
                    for i in range(24)]
            self.pids(2)
            for turn in range(5):
                self.assertEqual(self.step("good", turn, "4").observation.text, "no")
            self.reset("new")
            self.assertLess(time.monotonic() - begun, self.limit_s, "they waited for those that hang")
            for one in hung:
                one.result()
        self.wait_gone(self.pids(48))  # what they had started as well
        for i in range(24):
            self.refused(grpc.StatusCode.NOT_FOUND, self.step, f"bad-{i}", 0, "4")
        self.assertEqual(dict(self.state().detail)["lost"], 24)
        self.assertEqual(self.state().detail["episodes"], 2)
        self.assertEqual(self.step("good", 5, "5").reward, 1)
        self.reset("bad-0")  # its name is free again
        self.assertEqual(self.step("bad-0", 0, "5").reward, 1)

    def test_a_reset_that_hangs_is_killed_too(self):
        self.refused(grpc.StatusCode.ABORTED, self.reset, "a", "hang")
        self.reset("a")

    def test_what_takes_its_process_down_costs_its_episode_alone(self):
        for name in "abc":
            self.reset(name)
        with self.assertRaises(grpc.RpcError) as raised:
            self.step("a", 0, "fault")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.ABORTED)
        self.assertIn("died of SIGSEGV", raised.exception.details())
        self.refused(grpc.StatusCode.ABORTED, self.step, "b", 0, "leave")
        self.assertEqual(self.step("c", 0, "5").reward, 1)

    def test_a_repeat_of_a_call_whose_caller_left_is_no_second_call(self):
        self.reset("a")
        request = contract.StepRequest(episode_id="a", turn=0, action="hang")
        with self.assertRaises(grpc.RpcError):
            self.channel.unary_unary(f"/{contract.ENVIRONMENT}/Step", request_serializer=lambda m: m.SerializeToString(),
                                     response_deserializer=contract.StepReply.FromString)(request, timeout=0.5)
        self.refused(grpc.StatusCode.ABORTED, self.step, "a", 0, "hang")
        self.assertEqual(len(self.pids(2)), 2)

    def test_episodes_share_what_the_file_loaded_and_nothing_else(self):
        self.reset("a", "first")
        self.reset("b", "second")
        self.assertEqual(self.step("a", 0, "loaded").observation.text, "first")
        self.assertEqual(self.step("b", 0, "loaded").observation.text, "second")

    def test_a_step_under_way_ends_with_its_episode_and_all_with_the_service(self):
        self.reset("a")
        self.reset("b")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            one = pool.submit(self.refused, grpc.StatusCode.ABORTED, self.step, "a", 0, "hang")
            first = self.pids(2)
            self.close("a")
            one.result()
            self.wait_gone(first)
            self.assertEqual(self.state().detail["lost"], 0)
            other = pool.submit(self.step, "b", 0, "hang")
            second = self.pids(4)[2:]
            self.process.kill()
            self.assertIsNotNone(other.exception())
            self.wait_gone(second)


class Idle(EnvironmentTest):
    idle_s = 0.2

    def test_what_nobody_steps_is_forgotten(self):
        self.reset("a")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            state = self.call("GetProcessState", contract.GetProcessStateRequest(), contract.ProcessState,
                              contract.CONTROL)
            if state.detail["expired"] == 1:
                break
            time.sleep(0.05)
        self.refused(grpc.StatusCode.NOT_FOUND, self.step, "a", 0, "5")


class Broken(unittest.TestCase):
    def test_a_file_that_cannot_be_loaded_again_is_refused_at_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "once.py"  # the service loads it, and so does the nursery
            file.write_text(WORLD.replace("IDLE", "1").replace("LIMIT", "1").replace("MOST", "1")
                            + "\nif 'nursery' in sys.argv[0]:\n"
                              "    raise OSError('no device')\n")
            done = subprocess.run([sys.executable, "-m", "tramontane_verifier", "environment", str(file)],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn("no device", done.stderr)


class Author(unittest.TestCase):
    def test_mistakes_are_told_when_the_file_is_loaded(self):
        with self.assertRaises(TypeError):
            environment(name="x")(type("Half", (), {"reset": lambda self, row: ""}))
        with self.assertRaises(ValueError):
            environment(name="")
        with self.assertRaises(TypeError):
            as_step("a text")
        with self.assertRaises(ValueError):
            as_step(Step(metrics={"a": float("inf")}))


if __name__ == "__main__":
    unittest.main()
