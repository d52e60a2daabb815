"""The gRPC service of an environment: episodes by id, each an object of the author's class."""
import asyncio
import concurrent.futures
import dataclasses
import json
import logging
import time
from typing import Any

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tramontane_verifier import contract
from tramontane_verifier.control import ControlServicer, add_reflection, unary_handlers
from tramontane_verifier.environment import BadRow, EnvironmentSpec, as_step
from tramontane_verifier.service import _listen, _server, stop_on_signals

log = logging.getLogger("tramontane_environment")

_SWEEP_S = 1.0
_LAST_CALLS_S = 2.0


@dataclasses.dataclass
class _Episode:
    instance: Any
    reset: Any = None  # the reply, for a repeat
    turn: int = -1     # the newest that was taken
    reply: Any = None  # of it
    used: float = 0.0
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


def _row(request) -> dict[str, Any]:
    return {"row_id": request.row_id, "prompt": request.prompt, "answer": request.answer,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "params": json_format.MessageToDict(request.params) if request.HasField("params") else {},
            "seed": request.seed}


def _show(observation, into) -> None:
    if isinstance(observation, str):
        into.text = observation
    elif observation is not None:
        into.tokens.extend(observation)


class EnvironmentServicer:
    """All members run on one event loop; the author's code in threads, one call an episode at a time."""

    def __init__(self, spec: EnvironmentSpec, threads: int):
        self._spec = spec
        self._episodes: dict[str, _Episode] = {}
        self._finished = 0
        self._expired = 0
        self._errors = 0
        self._draining = False
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)

    async def describe(self, request, context):
        if problem := contract.skew(request.handshake):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        reply = contract.EnvironmentDescription(
            name=self._spec.name, version=self._spec.version, digest=self._spec.digest,
            capacity=self._spec.max_episodes)
        contract.set_handshake(reply.handshake)
        return reply

    async def describe_as_verifier(self, request, context):
        """It stands among a run's verifiers, which are asked who they are when they are started."""
        reply = contract.VerifierDescription(
            name=self._spec.name, version=self._spec.version, digest=self._spec.digest, tier="process")
        contract.set_handshake(reply.handshake)
        return reply

    async def reset(self, request, context):
        if not request.episode_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "episode_id is empty")
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the environment is stopping")
        episode = self._episodes.get(request.episode_id)
        if episode is None:
            if len(self._episodes) >= self._spec.max_episodes:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED,
                                    f"{len(self._episodes)} episodes are open")
            episode = self._episodes[request.episode_id] = _Episode(None)
        async with episode.lock:
            episode.used = time.monotonic()
            if episode.turn >= 0:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION,
                                    f"episode {request.episode_id} has begun already")
            if episode.reset is None:
                reply = contract.ResetReply()
                try:
                    episode.instance = self._spec.make()
                    seen = await self._run(episode.instance.reset, _row(request))
                    _show(seen, reply.observation)
                except Exception as e:
                    self._episodes.pop(request.episode_id, None)
                    await self._blame(e, "reset", context)
                episode.reset = reply
            return episode.reset

    async def step(self, request, context):
        episode = self._episodes.get(request.episode_id)
        if episode is None or episode.reset is None:
            await context.abort(grpc.StatusCode.NOT_FOUND,
                                f"episode {request.episode_id} is not known here; it was closed, has "
                                "expired, or never was")
        async with episode.lock:
            episode.used = time.monotonic()
            if request.turn == episode.turn:
                return episode.reply
            if request.turn != episode.turn + 1:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION,
                                    f"turn {request.turn} follows {episode.turn}")
            reply = contract.StepReply()
            try:
                step = as_step(await self._run(episode.instance.step, request.action))
                _show(step.observation, reply.observation)
                reply.metrics.update(step.metrics)
            except Exception as e:
                await self._blame(e, "step", context)
            reply.reward, reply.done, reply.correct = step.reward, step.done, step.correct
            reply.feedback = step.feedback
            episode.turn, episode.reply = request.turn, reply
            return reply

    async def close(self, request, context):
        await self._forget(request.episode_id)
        return contract.CloseReply()

    async def _run(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def _blame(self, error: Exception, call: str, context) -> None:
        self._errors += 1
        log.warning("%s failed: %r", call, error)
        bad_row = isinstance(error, BadRow)
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT if bad_row else grpc.StatusCode.INTERNAL,
            f"{call}: {type(error).__name__}: {error}"[:1000])

    async def _forget(self, episode_id: str) -> None:
        episode = self._episodes.pop(episode_id, None)
        if episode is None:
            return
        self._finished += 1
        if callable(close := getattr(episode.instance, "close", None)):
            try:
                await self._run(close)
            except Exception as e:  # nobody waits for it
                self._errors += 1
                log.warning("close failed: %r", e)

    async def sweep(self) -> None:
        """Forgets, until cancelled, what nobody has stepped for too long."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = time.monotonic() - self._spec.idle_timeout_s
            for episode_id, episode in list(self._episodes.items()):
                if episode.used < oldest and not episode.lock.locked():
                    self._expired += 1
                    await self._forget(episode_id)

    def state(self) -> dict[str, Any]:
        return {"phase": "draining" if self._draining else "serving",
                "detail": {"environment": self._spec.name, "version": self._spec.version,
                           "digest": self._spec.digest, "episodes": len(self._episodes),
                           "finished": self._finished, "expired": self._expired,
                           "errors": self._errors}}

    def begin_drain(self) -> None:
        self._draining = True

    def handlers(self) -> grpc.GenericRpcHandler:
        return unary_handlers(contract.ENVIRONMENT, {
            "Describe": (self.describe, contract.DescribeEnvironmentRequest),
            "Reset": (self.reset, contract.ResetRequest),
            "Step": (self.step, contract.StepRequest),
            "Close": (self.close, contract.CloseRequest),
        })

    def verifier_handlers(self) -> grpc.GenericRpcHandler:
        return unary_handlers(contract.SERVICE, {
            "Describe": (self.describe_as_verifier, contract.DescribeRequest)})


async def serve(spec: EnvironmentSpec, bind: str, threads: int) -> None:
    """Until SIGTERM, SIGINT or Control.Drain. Prints one line of JSON when it listens."""
    stop, request_stop = stop_on_signals(_LAST_CALLS_S)
    process = f"environment-{spec.name}"
    server = _server()
    address = _listen(server, bind)
    servicer = EnvironmentServicer(spec, threads)
    control = ControlServicer(process, "", servicer.state, request_stop)
    server.add_generic_rpc_handlers((servicer.handlers(), servicer.verifier_handlers(),
                                     control.handlers()))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server, contract.ENVIRONMENT)
    await server.start()
    for name in ("", contract.ENVIRONMENT, contract.CONTROL):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    print(json.dumps({"event": "listening", "process": process, "address": address}), flush=True)
    sweeper = asyncio.create_task(servicer.sweep())
    deadline_s = await stop
    servicer.begin_drain()
    sweeper.cancel()
    await health.enter_graceful_shutdown()
    await server.stop(grace=deadline_s)
