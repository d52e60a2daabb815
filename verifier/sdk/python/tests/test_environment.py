"""An environment of the SDK as a process, asked over gRPC like a generator would."""
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

@environment(name="guess", version="1.2.0", max_episodes=3, idle_timeout_s=IDLE)
class Guess:
    def reset(self, row):
        if row["answer"] == "none":
            raise BadRow("no secret")
        self.secret, self.steps = row["answer"], 0
        return [7, 8] if row["params"].get("ids") else "go"

    def step(self, action):
        self.steps += 1
        if action == "crash":
            raise RuntimeError("boom")
        if action == "nonsense":
            return Step(reward=float("nan"))
        right = action == self.secret
        return Step("no", reward=float(right), done=right, correct=right, metrics={"steps": self.steps})
'''


class EnvironmentTest(unittest.TestCase):
    idle_s = 600

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name) / "guess.py"
        file.write_text(WORLD.replace("IDLE", str(self.idle_s)))
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
