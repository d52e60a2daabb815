"""The SDK's service as a process, asked over gRPC like a generator would."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tramontane_verifier import contract, processes
from tramontane_verifier import pool as pool_module
from tramontane_verifier.pool import Pool

HERE = Path(__file__).resolve().parent
NAUGHTY = str(HERE / "naughty.py")


def await_true(condition, what, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.01)


def has_ended(pid):
    """Whether a process is dead, waited for by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Server:
    """`tramontane-verifier serve` on a port of its own choice."""

    def __init__(self, *arguments, file=NAUGHTY):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tramontane_verifier", "serve", file, "--bind", "127.0.0.1:0",
             *arguments],
            stdout=subprocess.PIPE, text=True,
        )
        line = self.process.stdout.readline()
        self.listening = json.loads(line) if line else None
        if self.listening:
            self.channel = grpc.insecure_channel(self.listening["address"])

    def method(self, name, request, reply, service=contract.SERVICE):
        return self.channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=reply.FromString,
        )

    def verify(self, completion, request_id="", timeout_s=0.0, answer="gold", **fields):
        request = contract.VerifyRequest(
            request_id=request_id, completion=completion, answer=answer,
            exec_timeout_s=timeout_s, **fields)
        call = self.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        return call(request, timeout=60)

    def stream(self, requests):
        call = self.channel.stream_stream(
            f"/{contract.SERVICE}/VerifyStream",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=contract.VerifyResult.FromString,
        )
        return call(iter(requests), timeout=60)

    def state(self):
        call = self.method("GetProcessState", contract.GetProcessStateRequest,
                           contract.ProcessState, contract.CONTROL)
        return call(contract.GetProcessStateRequest(), timeout=20)

    def await_running(self, requests):
        """Until workers have taken so many, and no more wait."""
        await_true(lambda: (self.state().detail["in_flight"], self.state().detail["waiting"])
                   == (requests, 0), f"{requests} running")

    def stop(self):
        if self.listening:
            self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return code


def status_name(result):
    return {number: name for name, number in contract.Status.items()}[result.status]


class ServiceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--workers", "2", "--max-workers", "2")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def check(self, completion, status, reward=None, correct=False):
        result = self.server.verify(completion)
        self.assertEqual(status_name(result), status, (completion, result.feedback))
        self.assertEqual(result.HasField("reward"), reward is not None, completion)
        if reward is not None:
            self.assertAlmostEqual(result.reward, reward)
        self.assertEqual(result.correct, correct, completion)
        self.assertEqual(result.verifier, "naughty")
        self.assertEqual(result.version, "0.3.0")
        self.assertEqual(len(result.digest), 64)
        return result

    def test_numbers_and_dictionaries_are_rewards(self):
        self.check("true", "SCORED", 1.0, correct=True)
        self.check("zero", "SCORED", 0.0)
        self.check("wrong but high", "SCORED", 1.0, correct=False)
        result = self.check("components", "SCORED", 1.0, correct=True)
        self.assertEqual(dict(result.components), {"format": 0.1, "accuracy": 0.9})
        self.check("failure", "POLICY_FAILURE", 0.0)

    def test_nonsense_is_an_error_and_never_a_reward(self):
        for completion in ("nan", "inf", "too much", "text", "wrong sum", "empty dict",
                           "unknown key", "raise", "no such case"):
            result = self.check(completion, "VERIFIER_ERROR")
            self.assertTrue(result.retryable, completion)
            self.assertTrue(result.feedback, completion)

    def test_none_is_nothing_said_and_no_fault_of_the_rows(self):
        result = self.check("none", "SKIPPED")
        self.assertFalse(result.retryable)
        self.assertFalse(result.HasField("reward"))

    def test_a_result_says_what_was_judged(self):
        """As the C++ side computes it (tests/unit/verifier_service/reply_check_test.cc)."""
        call = self.server.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        result = call(contract.VerifyRequest(prompt="1+1=", completion="true", answer="two"), timeout=20)
        self.assertEqual(result.judged, hashlib.sha256(b"4:1+1=4:true3:two").hexdigest()[:16])

    def test_arguments_come_by_name(self):
        request = dict(seed=9, answer="42")
        request = contract.VerifyRequest(completion="echo", **request)
        request.params.update({"flavour": "sweet", "n": 3})
        call = self.server.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        result = call(request, timeout=60)
        self.assertTrue(result.extracted.startswith("42/"), result.extracted)
        self.assertTrue(result.extracted.endswith("/9/sweet"), result.extracted)

    def test_a_hanging_function_does_not_hold_up_the_rest_and_is_killed(self):
        results = {}
        hang = threading.Thread(target=lambda: results.update(
            hang=self.server.verify("hang", request_id="hangs", timeout_s=30)))
        hang.start()
        self.server.await_running(1)
        for _ in range(5):
            self.check("true", "SCORED", 1.0, correct=True)
        self.assertEqual(results, {}, "the other worker waited")
        cancel = self.server.method("Cancel", contract.CancelRequest, contract.CancelReply)
        cancel(contract.CancelRequest(request_id="hangs"), timeout=20)
        hang.join()
        result = self.server.verify("hang", timeout_s=0.5)
        self.assertEqual(status_name(result), "TIMEOUT")
        self.assertFalse(result.HasField("reward"))
        for _ in range(4):
            self.check("true", "SCORED", 1.0, correct=True)

    def test_grandchildren_are_killed_too(self):
        result = self.server.verify("fork and hang", timeout_s=0.5)
        self.assertEqual(status_name(result), "TIMEOUT")
        sleepers = subprocess.run(["pgrep", "-s", "0", "-f", "tramontane_verifier.worker"],
                                  capture_output=True, text=True).stdout
        self.assertEqual(sleepers, "", "workers have sessions of their own")
        workers = [p for p in _processes() if "tramontane_verifier.worker" in p[1]
                   and NAUGHTY in p[1] and p[2] != self.server.process.pid]
        self.assertEqual(workers, [], "a grandchild outlived the kill")

    def test_crashes_are_errors_and_the_worker_is_replaced(self):
        for completion in ("segfault", "exit", "sys.exit"):
            result = self.check(completion, "VERIFIER_ERROR")
            self.assertTrue(result.retryable)
            self.check("true", "SCORED", 1.0, correct=True)
        self.assertIn("SIGSEGV", self.server.verify("segfault").feedback)

    def test_sigalrm_works_in_user_code(self):
        self.check("alarm", "SCORED", 0.75)

    def test_the_execution_clock_leaves_waiting_out(self):
        # Twenty of 0.3 s on two workers: the last waits 2.7 s and more, with 2 s allowed for each.
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(self.server.verify("sleep", timeout_s=2)))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([status_name(r) for r in results], ["SCORED"] * 20)
        self.assertGreater(max(r.queue_seconds for r in results), 2)
        self.assertLess(max(r.exec_seconds for r in results), 2)

    def test_a_repeat_gets_the_first_verdict(self):
        first = self.server.verify("pid", request_id="g/1")
        os.kill(int(first.extracted), signal.SIGKILL)
        await_true(lambda: has_ended(int(first.extracted)), "the worker is dead")
        self.assertEqual(self.server.verify("pid", request_id="g/1").extracted, first.extracted)

    def test_streams_answer_in_any_order_and_each_once(self):
        requests = [contract.VerifyRequest(request_id="slow", completion="sleep")]
        requests += [contract.VerifyRequest(request_id=f"f{i}", completion="true") for i in range(20)]
        ids = [r.request_id for r in self.server.stream(requests)]
        self.assertEqual(sorted(ids), sorted(r.request_id for r in requests))
        self.assertNotEqual(ids[0], "slow")

    def test_cancel_ends_a_waiting_request(self):
        results = {}
        threads = [threading.Thread(target=lambda name=name, completion=completion: results.update(
            {name: self.server.verify(completion, request_id=name, timeout_s=60)}))
            for name, completion in (("a", "hang"), ("b", "hang"), ("waits", "true"))]
        for thread in threads[:2]:
            thread.start()
        self.server.await_running(2)
        threads[2].start()
        await_true(lambda: self.server.state().detail["waiting"] == 1, "the third request waits")
        cancel = self.server.method("Cancel", contract.CancelRequest, contract.CancelReply)
        for name in ("waits", "a", "b"):
            cancel(contract.CancelRequest(request_id=name), timeout=20)
            threads[("a", "b", "waits").index(name)].join()
            self.assertEqual(status_name(results[name]), "CANCELLED")

    def test_cancel_kills_what_runs_and_nothing_else(self):
        for way in ("unary", "stream"):
            results = {}
            hang = threading.Thread(target=lambda: results.update(
                hang=self.server.verify("hang", request_id=f"hang {way}", timeout_s=60)))
            hang.start()
            self.server.await_running(1)
            if way == "unary":
                cancel = self.server.method("Cancel", contract.CancelRequest, contract.CancelReply)
                cancel(contract.CancelRequest(request_id=f"hang {way}"), timeout=10)
            else:
                messages = [contract.VerifyRequest(request_id=f"hang {way}", cancel=True),
                            contract.VerifyRequest(request_id="after", completion="true")]
                self.assertEqual([r.request_id for r in self.server.stream(messages)], ["after"])
            hang.join()
            self.assertEqual(status_name(results["hang"]), "CANCELLED")
        # Both workers are free again: the timeout of a minute has not been waited for.
        start = time.monotonic()
        for _ in range(4):
            self.check("true", "SCORED", 1.0, correct=True)
        self.assertLess(time.monotonic() - start, 50)

    def test_a_repeat_on_another_stream_joins_the_first(self):
        answers = []

        def ask():
            answers.extend(self.server.stream(
                [contract.VerifyRequest(request_id="joined", completion="sleep and pid")]))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(answers), 2)
        self.assertEqual(len({(a.extracted, a.exec_seconds) for a in answers}), 1, "it ran twice")

    def test_a_group_is_bad_input_for_a_function_over_samples(self):
        request = contract.VerifyRequest()
        request.group.add(completion="true")
        call = self.server.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        self.assertEqual(status_name(call(request, timeout=20)), "BAD_INPUT")

    def test_describes_itself_and_refuses_skew(self):
        describe = self.server.method("Describe", contract.DescribeRequest,
                                      contract.VerifierDescription)
        request = contract.DescribeRequest()
        request.handshake.protocol_version = contract.PROTOCOL_VERSION
        description = describe(request, timeout=10)
        self.assertEqual(description.name, "naughty")
        self.assertEqual(description.capacity, 2)
        self.assertEqual((description.reward_min, description.reward_max), (0, 1))
        self.assertEqual(description.handshake.protocol_version, contract.PROTOCOL_VERSION)
        request.handshake.protocol_version = 99
        with self.assertRaises(grpc.RpcError) as refused:
            describe(request, timeout=10)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertIn("99", refused.exception.details())

    def test_health_answers(self):
        stub = health_pb2_grpc.HealthStub(self.server.channel)
        for name in ("", contract.SERVICE, contract.CONTROL):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            self.assertEqual(reply.status, health_pb2.HealthCheckResponse.SERVING)


def _processes():
    """(pid, command line, parent) of every process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            found.append((int(entry.name), command, parent))
    return found


class GroupTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--workers", "1", file=str(HERE / "grouped.py"))

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def judge(self, *completions):
        request = contract.VerifyRequest(request_id="/".join(completions), answer="x")
        for completion in completions:
            request.group.add(completion=completion)
        call = self.server.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        return call(request, timeout=20)

    def test_one_result_a_sample_in_order(self):
        result = self.judge("ab", "none", "abcd")
        self.assertEqual(status_name(result), "SCORED")
        self.assertFalse(result.HasField("reward"))
        self.assertEqual([status_name(r) for r in result.group], ["SCORED", "SKIPPED", "SCORED"])
        self.assertEqual([r.reward for r in result.group], [0.5, 0.0, 1.0])
        self.assertEqual([r.correct for r in result.group], [False, False, True])
        self.assertFalse(result.group[1].HasField("reward"))

    def test_nonsense_about_one_sample_spoils_the_group(self):
        for completions in (("nan", "a"), ("short", "a")):
            result = self.judge(*completions)
            self.assertEqual(status_name(result), "VERIFIER_ERROR", completions)
            self.assertEqual(len(result.group), 0)

    def test_describes_what_it_is(self):
        describe = self.server.method("Describe", contract.DescribeRequest,
                                      contract.VerifierDescription)
        request = contract.DescribeRequest()
        request.handshake.protocol_version = contract.PROTOCOL_VERSION
        description = describe(request, timeout=10)
        self.assertTrue(description.group_aware)
        self.assertEqual(list(description.needs), ["network"])
        self.assertEqual(description.tier, "process")
        self.assertGreater(description.max_request_bytes, 0)


class ElasticTest(unittest.TestCase):
    """One worker, and room for more while it is blocked."""

    def serve(self, most):
        server = Server("--workers", "1", "--max-workers", str(most))
        self.addCleanup(server.stop)
        return server

    def ask_later(self, server, completion, timeout_s):
        call = server.method("Verify", contract.VerifyRequest, contract.VerifyResult)
        return call.future(contract.VerifyRequest(completion=completion, exec_timeout_s=timeout_s),
                           timeout=300)

    def test_requests_pass_those_that_sleep(self):
        server = self.serve(5)
        naps = [self.ask_later(server, "nap", 290) for _ in range(4)]
        self.assertEqual(status_name(server.verify("true")), "SCORED")
        self.assertFalse(any(nap.done() for nap in naps))
        server.process.kill()  # nobody waits for the naps to end

    def test_capacity_is_what_there_may_be(self):
        describe = self.serve(5).method("Describe", contract.DescribeRequest,
                                        contract.VerifierDescription)
        request = contract.DescribeRequest()
        request.handshake.protocol_version = contract.PROTOCOL_VERSION
        self.assertEqual(describe(request, timeout=10).capacity, 5)

    def test_a_worker_that_computes_is_not_joined_by_others(self):
        server = self.serve(5)
        busy = self.ask_later(server, "hang", 3)
        while not self.computes(server):
            time.sleep(0.02)
        self.assertGreater(server.verify("true").queue_seconds, 1)
        self.assertEqual(status_name(busy.result()), "TIMEOUT")

    def computes(self, server):
        workers = {pid for pid, _, parent in _processes() if parent == server.process.pid}
        return processes.sessions_at_work(workers)

    def test_further_workers_end_when_they_idle(self):
        pool = Pool(NAUGHTY, 1, 16, 60, most_workers=3)
        with unittest.mock.patch.object(pool_module, "_IDLE_S", 0.1):
            pool.start()
            self.addCleanup(pool.stop)
            for job in [pool.submit({"completion": "sleep", "answer": "", "params": {}})
                        for _ in range(6)]:
                self.assertEqual(job.future.result(60)["status"], "SCORED")
            deadline = time.monotonic() + 60
            while pool.running_workers > 1 and time.monotonic() < deadline:
                time.sleep(0.02)
        self.assertEqual(pool.running_workers, 1)


class LifecycleTest(unittest.TestCase):
    def test_requests_that_are_too_large_are_bad_input(self):
        server = Server("--workers", "1", "--max-request-mb", "0.001")
        try:
            result = server.verify("x" * 2000)
            self.assertEqual(status_name(result), "BAD_INPUT")
            self.assertIn("1048", result.feedback)
            self.assertEqual(status_name(server.verify("true")), "SCORED")
        finally:
            server.stop()

    def test_a_full_queue_is_resource_exhausted(self):
        server = Server("--workers", "1", "--max-workers", "1", "--max-waiting", "1")
        try:
            codes = []

            def ask():
                try:
                    codes.append(status_name(server.verify("sleep")))
                except grpc.RpcError as e:
                    codes.append(e.code().name)

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertIn("RESOURCE_EXHAUSTED", codes)
            self.assertIn("SCORED", codes)
        finally:
            server.stop()

    def test_workers_are_recycled(self):
        server = Server("--workers", "1", "--recycle-after", "3")
        try:
            pids = [server.verify("pid").extracted for _ in range(9)]
            self.assertEqual(len(set(pids)), 3, pids)
        finally:
            server.stop()

    def test_workers_die_with_a_killed_service(self):
        server = Server("--workers", "1")
        pid = int(server.verify("pid").extracted)
        server.process.kill()
        server.stop()
        await_true(lambda: not Path(f"/proc/{pid}").exists(), "the worker ends with its service")

    def test_a_taken_port_is_said_clearly(self):
        server = Server("--workers", "1")
        try:
            second = subprocess.run(
                [sys.executable, "-m", "tramontane_verifier", "serve", NAUGHTY, "--workers", "1",
                 "--bind", server.listening["address"]],
                capture_output=True, text=True, timeout=60)
            self.assertEqual(second.returncode, 1)
            self.assertIn(server.listening["address"], second.stderr)
        finally:
            server.stop()

    def test_a_file_that_cannot_be_loaded_does_not_serve(self):
        with tempfile.TemporaryDirectory() as folder:
            for source, reason in (("import no_such_module\n", "no_such_module"),
                                   ("x = 1\n", "exactly one"),
                                   ("def broken(:\n", "SyntaxError")):
                file = Path(folder) / "v.py"
                file.write_text(source)
                done = subprocess.run(
                    [sys.executable, "-m", "tramontane_verifier", "serve", str(file)],
                    capture_output=True, text=True, timeout=60)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    unittest.main()
