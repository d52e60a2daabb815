"""What operators and tools see of the service: Control, reflection, /metrics."""
import re
import threading
import unittest
import urllib.request
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tramontane_verifier import contract
from test_service import Server, await_true, status_name

METRICS_PAGE = Path(__file__).resolve().parents[4] / "docs" / "metrics.md"


def scrape(server):
    address = server.listening["metrics_address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as reply:
        return reply.read().decode()


def values(text):
    """{'name{labels}': value} of a scrape."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, value in lines}


def started(server, completion, request_id):
    """The request on a thread of its own, and where its result will be."""
    results = []
    thread = threading.Thread(
        target=lambda: results.append(server.verify(completion, request_id=request_id, timeout_s=60)))
    thread.start()
    return thread, results


class OperationsTest(unittest.TestCase):
    def setUp(self):
        self.server = Server("--workers", "1")
        self.addCleanup(self.server.stop)

    def control(self, name, request):
        replies = {"Hello": contract.HelloReply, "Drain": contract.DrainReply}
        return self.server.method(name, type(request), replies[name], contract.CONTROL)(request,
                                                                                        timeout=20)

    def test_says_who_it_is_and_refuses_skew(self):
        request = contract.HelloRequest()
        request.handshake.protocol_version = contract.PROTOCOL_VERSION
        request.handshake.run_id = "any run"
        reply = self.control("Hello", request)
        self.assertEqual(reply.process, "verifier-naughty")
        self.assertEqual(reply.metrics_address, self.server.listening["metrics_address"])
        self.assertEqual(reply.handshake.protocol_version, contract.PROTOCOL_VERSION)
        request.handshake.protocol_version = 99
        with self.assertRaises(grpc.RpcError) as refused:
            self.control("Hello", request)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertIn("theirs 99", refused.exception.details())

    def test_its_state_counts_what_it_holds_and_did(self):
        self.server.verify("true")
        thread, _ = started(self.server, "hang", "held")
        self.server.await_running(1)
        state = self.server.state()
        self.assertEqual((state.process, state.phase), ("verifier-naughty", "serving"))
        self.assertEqual({key: state.detail[key] for key in
                          ("verifier", "version", "in_flight", "waiting", "finished", "workers")},
                         {"verifier": "naughty", "version": "0.3.0", "in_flight": 1, "waiting": 0,
                          "finished": 1, "workers": 1})
        cancel = self.server.method("Cancel", contract.CancelRequest, contract.CancelReply)
        cancel(contract.CancelRequest(request_id="held"), timeout=20)
        thread.join()

    def test_drain_finishes_what_it_holds_takes_no_more_and_exits_0(self):
        watch = health_pb2_grpc.HealthStub(self.server.channel).Watch(
            health_pb2.HealthCheckRequest(service=contract.SERVICE), timeout=60)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        waiting = [started(self.server, "sleep", f"held {i}") for i in range(3)]
        await_true(lambda: self.server.state().detail["in_flight"] == 3
                   or self.server.state().detail["finished"] > 0, "three requests held")
        self.control("Drain", contract.DrainRequest(deadline_s=60))
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
        watch.cancel()
        with self.assertRaises(grpc.RpcError) as refused:
            self.server.verify("true")
        self.assertIn(refused.exception.code(),
                      (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE))
        for thread, results in waiting:
            thread.join()
            self.assertEqual([status_name(r) for r in results], ["SCORED"])
        self.assertEqual(self.server.process.wait(timeout=60), 0)

    def test_a_deadline_that_makes_no_sense_is_refused(self):
        for deadline_s in (-1.0, float("nan"), float("inf")):
            with self.assertRaises(grpc.RpcError) as refused:
                self.control("Drain", contract.DrainRequest(deadline_s=deadline_s))
            self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(self.server.state().phase, "serving")

    def test_reflection_lists_the_services_and_describes_them(self):
        stub = reflection_pb2_grpc.ServerReflectionStub(self.server.channel)

        def ask(**request):
            requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
            return next(stub.ServerReflectionInfo(requests, timeout=20))

        names = {s.name for s in ask(list_services="").list_services_response.service}
        self.assertEqual(names, {contract.SERVICE, contract.CONTROL, "grpc.health.v1.Health",
                                 "grpc.reflection.v1alpha.ServerReflection"})
        for name in names:
            answer = ask(file_containing_symbol=name)
            self.assertFalse(answer.HasField("error_response"), name)
            files = [descriptor_pb2.FileDescriptorProto.FromString(data)
                     for data in answer.file_descriptor_response.file_descriptor_proto]
            self.assertIn(name, {f"{f.package}.{s.name}" for f in files for s in f.service})

    def test_metrics_count_verdicts_times_and_workers(self):
        self.assertEqual(status_name(self.server.verify("true")), "SCORED")
        self.assertEqual(status_name(self.server.verify("zero")), "SCORED")
        self.assertEqual(status_name(self.server.verify("raise")), "VERIFIER_ERROR")
        self.assertEqual(status_name(self.server.verify("hang", timeout_s=0.5)), "TIMEOUT")
        self.assertEqual(status_name(self.server.verify("true")), "SCORED")
        seen = values(scrape(self.server))
        one = '{verifier="naughty"}'
        for status, count in (("scored", 3), ("verifier_error", 1), ("timeout", 1), ("overloaded", 0)):
            self.assertEqual(
                seen[f'tramontane_verifier_results_total{{status="{status}",verifier="naughty"}}'],
                count, status)
        self.assertEqual(seen["tramontane_verifier_exec_seconds_count" + one], 5)
        self.assertEqual(seen["tramontane_verifier_queue_seconds_count" + one], 5)
        self.assertGreater(seen["tramontane_verifier_exec_seconds_sum" + one], 0.5)
        self.assertEqual(seen["tramontane_verifier_workers" + one], 1)
        self.assertEqual(seen["tramontane_verifier_worker_restarts_total" + one], 1)
        # The one that hung was replaced, and a request waited for that; a whole start is not nothing.
        waited = 'tramontane_verifier_wait_seconds_total{reason="%s",verifier="naughty"}'
        self.assertGreater(seen[waited % "start"], 0.01)
        self.assertGreater(seen[waited % "requests"], 0)
        self.assertGreater(values(scrape(self.server))[waited % "requests"], seen[waited % "requests"])
        resident, peak = (seen[f'tramontane_process_memory_bytes{{kind="{kind}"}}']
                          for kind in ("resident", "peak"))
        self.assertGreater(resident, 1 << 20)
        self.assertGreaterEqual(peak, resident / 2)
        self.assertEqual(seen["tramontane_verifier_in_flight" + one], 0)
        self.assertEqual(seen["tramontane_verifier_waiting" + one], 0)

    def test_metrics_show_what_is_held_and_what_waits(self):
        threads = []
        for request_id, waiting in (("runs", 0), ("waits", 1)):
            threads.append(started(self.server, "hang", request_id)[0])
            await_true(lambda: values(scrape(self.server))[
                'tramontane_verifier_in_flight{verifier="naughty"}'] == len(threads), request_id)
            await_true(lambda: values(scrape(self.server))[
                'tramontane_verifier_waiting{verifier="naughty"}'] == waiting, request_id)
        cancel = self.server.method("Cancel", contract.CancelRequest, contract.CancelReply)
        for request_id in ("waits", "runs"):
            cancel(contract.CancelRequest(request_id=request_id), timeout=20)
        for thread in threads:
            thread.join()

    def test_names_kinds_and_meanings_are_those_of_the_reference_page(self):
        page = dict(re.findall(r"^\| `(\w+)` \| (\w+ \| .*) \|$", METRICS_PAGE.read_text(), re.M))
        text = scrape(self.server)
        kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
        helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.M))
        self.assertGreater(len(kinds), 5)
        for name, kind in kinds.items():
            self.assertEqual(f"{kind} | {helps[name]}", page.get(name), name)


class AddressTest(unittest.TestCase):
    def test_metrics_can_be_switched_off(self):
        server = Server("--workers", "1", "--metrics-bind", "")
        try:
            self.assertEqual(server.listening["metrics_address"], "")
            self.assertEqual(status_name(server.verify("true")), "SCORED")
        finally:
            self.assertEqual(server.stop(), 0)

    def test_a_taken_or_senseless_metrics_address_ends_it(self):
        first = Server("--workers", "1")
        try:
            for bind in (first.listening["metrics_address"], "localhost", "127.0.0.1:http"):
                second = Server("--workers", "1", "--metrics-bind", bind)
                self.assertIsNone(second.listening)
                self.assertEqual(second.stop(), 1)
        finally:
            first.stop()


if __name__ == "__main__":
    unittest.main()
