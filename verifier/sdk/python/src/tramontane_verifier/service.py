"""The gRPC service over a worker pool."""
import asyncio
import collections
import hashlib
import json
import logging
import signal
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tramontane_verifier import contract, outcome
from tramontane_verifier.control import ControlServicer, add_reflection, unary_handlers
from tramontane_verifier.metrics import Metrics
from tramontane_verifier.pool import Job, Overloaded, Pool
from tramontane_verifier.spec import Spec

log = logging.getLogger("tramontane_verifier")

_MAX_MESSAGE_BYTES = 64 << 20
_MAX_REMEMBERED = 16384
_DRAIN_S = 2.0  # for what runs when the service is told to stop, unless Drain says otherwise
_LAST_CALLS_S = 2.0  # for answers on their way
# Requests of one stream in progress before it is not read any more: the sender feels it.
_STREAM_ROOM_PER_WORKER, _LEAST_STREAM_ROOM = 16, 64
_RETRYABLE = {"VERIFIER_ERROR", "SANDBOX_ERROR", "OVERLOADED", "CANCELLED"}


def request_to_dict(request) -> dict[str, Any]:
    """What a worker is given; texts of the samples are in `group` when there is one."""
    finish = contract.FINISH_REASONS
    group = [{"completion": s.completion, "completion_tokens": s.completion_tokens,
              "finish_reason": finish.get(s.finish_reason, "unspecified")} for s in request.group]
    return ({"group": group} if group else {}) | {
        "request_id": request.request_id,
        "prompt": request.prompt,
        "completion": request.completion,
        "answer": request.answer,
        "params": json_format.MessageToDict(request.params) if request.HasField("params") else {},
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "completion_tokens": request.completion_tokens,
        "finish_reason": finish.get(request.finish_reason, "unspecified"),
        "group_id": request.group_id,
        "policy_version": request.policy_version,
        "seed": request.seed,
    }


class VerifierServicer:
    """All members run on one event loop."""

    def __init__(self, spec: Spec, digest: str, pool: Pool, metrics: Metrics,
                 max_request_bytes: int):
        self._spec = spec
        self._digest = digest
        self._pool = pool
        self._metrics = metrics
        self._finished = 0
        self._draining = False
        self._max_request_bytes = max_request_bytes
        self._known: collections.OrderedDict[tuple, asyncio.Future] = collections.OrderedDict()
        self._jobs: dict[tuple, Job] = {}  # of those in _known that are not done

    async def describe(self, request, context):
        if problem := contract.skew(request.handshake):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        reply = contract.VerifierDescription(
            name=self._spec.name,
            version=self._spec.version,
            digest=self._digest,
            components=self._spec.components,
            reward_min=self._spec.reward_range[0] if self._spec.reward_range else 0.0,
            reward_max=self._spec.reward_range[1] if self._spec.reward_range else 0.0,
            group_aware=self._spec.group,
            needs=self._spec.needs,
            tier="process",
            max_request_bytes=self._max_request_bytes,
            determinism=contract.DETERMINISM[self._spec.determinism],
            capacity=self._pool.workers,
            suggested_exec_timeout_s=self._spec.timeout_s,
        )
        contract.set_handshake(reply.handshake)
        return reply

    async def verify(self, request, context):
        result = await self._score(request)
        if result.status == contract.Status["OVERLOADED"]:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, result.feedback)
        return result

    async def verify_stream(self, requests, context):
        results: asyncio.Queue = asyncio.Queue()
        room = asyncio.Semaphore(
            max(_LEAST_STREAM_ROOM, _STREAM_ROOM_PER_WORKER * self._pool.workers))
        running: set[asyncio.Task] = set()

        async def one(request):
            await results.put(await self._score(request))

        async def read():
            async for request in requests:
                if request.cancel:
                    self._cancel(request.request_id)
                    continue
                await room.acquire()
                task = asyncio.create_task(one(request))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
            await results.put(None)

        reader = asyncio.create_task(read())
        try:
            while (result := await results.get()) is not None:
                yield result
                room.release()
            await reader
        finally:
            reader.cancel()
            for task in running:
                task.cancel()

    async def cancel(self, request, context):
        self._cancel(request.request_id)
        return contract.CancelReply()

    def _cancel(self, request_id: str) -> None:
        """Everybody who waits for the id is told CANCELLED; what runs for it is killed."""
        for key, job in list(self._jobs.items()):
            if key[0] == request_id:
                self._settle(key, self._known[key], outcome.error("CANCELLED", "cancelled"))
                self._pool.cancel(job)

    async def _score(self, request):
        """Remembers verdicts by id and content; a repeat joins the first."""
        if request.ByteSize() > self._max_request_bytes:
            refused = self._result(request.request_id, outcome.error(
                "BAD_INPUT", f"the request has {request.ByteSize()} bytes, "
                f"{self._max_request_bytes} are taken"))
            self._count(refused, {})
            return refused
        bare = contract.VerifyRequest()
        bare.CopyFrom(request)
        bare.exec_timeout_s = 0
        bare.queue_deadline_s = 0
        content = hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
        # Without an id nothing can be repeated or cancelled.
        key = (request.request_id, content if request.request_id else object())
        if key in self._known:
            return await asyncio.shield(self._known[key])
        future = asyncio.get_running_loop().create_future()
        self._known[key] = future
        try:
            if self._draining:
                raise Overloaded("stopping")
            job = self._pool.submit(
                request_to_dict(request), request.exec_timeout_s, request.queue_deadline_s
            )
        except Overloaded as e:
            self._settle(key, future, outcome.error("OVERLOADED", str(e)))
        else:
            self._jobs[key] = job
            self._metrics.in_flight.set(len(self._jobs))
            loop = asyncio.get_running_loop()
            job.future.add_done_callback(
                lambda done: loop.call_soon_threadsafe(self._settle_from, key, future, done)
            )
        return await asyncio.shield(future)

    def _settle_from(self, key, future, done) -> None:
        stopped = outcome.error("CANCELLED", "the verifier is stopping")
        self._settle(key, future, stopped if done.cancelled() else done.result())

    def _settle(self, key, future, result: dict[str, Any]) -> None:
        self._jobs.pop(key, None)
        self._metrics.in_flight.set(len(self._jobs))
        if not future.done():
            future.set_result(self._result(key[0], result))
            self._count(future.result(), result)
        # What was not judged may be tried again; what was is kept for repeats, up to a bound.
        if future.result().retryable or not key[0]:
            self._known.pop(key, None)
        while len(self._known) > _MAX_REMEMBERED:
            oldest = next(iter(self._known))
            if not self._known[oldest].done():
                break
            self._known.pop(oldest)

    def _count(self, proto, result: dict[str, Any]) -> None:
        self._finished += 1
        self._metrics.finished(proto, started="queue_seconds" in result)

    def state(self) -> dict[str, Any]:
        """For Control.GetProcessState; what the C++ verifiers tell, and the pool's numbers."""
        return {
            "phase": "draining" if self._draining else "serving",
            "detail": {"verifier": self._spec.name, "version": self._spec.version,
                       "digest": self._digest, "in_flight": len(self._jobs),
                       "waiting": self._pool.waiting, "finished": self._finished, "workers": self._pool.alive,
                       "worker_restarts": self._pool.restarts},
        }

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and returns when all it holds is settled or the deadline is over."""
        self._draining = True
        pending = [self._known[key] for key in self._jobs]
        if pending:
            await asyncio.wait(pending, timeout=deadline_s)

    def _result(self, request_id: str, result: dict[str, Any]):
        proto = contract.VerifyResult(
            request_id=request_id,
            status=contract.Status[result["status"]],
            components=result.get("components", {}),
            correct=result.get("correct", False),
            extracted=result.get("extracted", ""),
            feedback=result.get("feedback", ""),
            retryable=result["status"] in _RETRYABLE,
            queue_seconds=result.get("queue_seconds", 0.0),
            exec_seconds=result.get("exec_seconds", 0.0),
            verifier=self._spec.name,
            version=self._spec.version,
            digest=self._digest,
            metrics=result.get("metrics", {}),
            judged=result.get("judged", ""),
        )
        if "reward" in result:
            proto.reward = result["reward"]
        proto.group.extend(self._result("", one) for one in result.get("group", ()))
        return proto

    def handlers(self) -> grpc.GenericRpcHandler:
        return unary_handlers(
            contract.SERVICE,
            {
                "Describe": (self.describe, contract.DescribeRequest),
                "Verify": (self.verify, contract.VerifyRequest),
                "Cancel": (self.cancel, contract.CancelRequest),
            },
            VerifyStream=grpc.stream_stream_rpc_method_handler(
                self.verify_stream,
                contract.VerifyRequest.FromString,
                lambda reply: reply.SerializeToString(),
            ),
        )


def _server() -> grpc.aio.Server:
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )


def _listen(server: grpc.aio.Server, bind: str) -> str:
    """The address; gRPC raises or answers 0 when it is taken."""
    port = server.add_insecure_port(bind)
    if port == 0:
        raise OSError(f"cannot listen on {bind}: address in use")
    return f"{bind.rsplit(':', 1)[0]}:{port}"


def stop_on_signals(drain_s: float) -> tuple[asyncio.Future[float], Callable[[float], None]]:
    """The seconds to drain for, once SIGTERM or SIGINT has come or the returned function is called:
    `drain_s` unless it says otherwise."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[float] = loop.create_future()

    def request_stop(deadline_s: float) -> None:
        if not stop.done():
            stop.set_result(deadline_s or drain_s)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop, 0.0)
    return stop, request_stop


async def serve(spec: Spec, digest: str, pool: Pool, bind: str, metrics_bind: str,
                max_request_bytes: int) -> None:
    """Until SIGTERM, SIGINT or Control.Drain. Prints one line of JSON when it listens. An empty
    `metrics_bind` switches /metrics off."""
    stop, request_stop = stop_on_signals(_DRAIN_S)
    process = f"verifier-{spec.name}"
    server = _server()
    address = _listen(server, bind)
    metrics = Metrics(spec.name, pool)
    metrics_address = metrics.serve(metrics_bind) if metrics_bind else ""
    servicer = VerifierServicer(spec, digest, pool, metrics, max_request_bytes)
    control = ControlServicer(process, metrics_address, servicer.state, request_stop)
    server.add_generic_rpc_handlers((servicer.handlers(), control.handlers()))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server)
    await server.start()
    for name in ("", contract.SERVICE, contract.CONTROL):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    print(json.dumps({"event": "listening", "process": process, "address": address,
                      "metrics_address": metrics_address}), flush=True)
    deadline_s = await stop
    log.info("stopping")
    await health.enter_graceful_shutdown()
    await servicer.drain(deadline_s)
    await server.stop(grace=_LAST_CALLS_S)
    metrics.stop()
