"""The gRPC service of an environment: episodes by id, each a process that holds an object of the author's
class, and is killed when a call of it does not end."""
import asyncio
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
from tramontane_verifier.environment import EnvironmentSpec
from tramontane_verifier.episode_process import Died, EpisodeProcess, NoMore, Nursery
from tramontane_verifier.pool import StartFailed
from tramontane_verifier.service import _listen, _server, stop_on_signals

log = logging.getLogger("tramontane_environment")

_SWEEP_S = 1.0
_LAST_CALLS_S = 2.0


class _Refusal(Exception):
    """What the caller is told in place of a reply."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass
class _Episode:
    process: EpisodeProcess | None = None
    reset: asyncio.Task | None = None  # gives the reply, to repeats as well
    turn: int = -1                     # the newest that was taken
    reply: asyncio.Task | None = None  # of it
    used: float = dataclasses.field(default_factory=time.monotonic)

    def busy(self) -> bool:
        return any(task is not None and not task.done() for task in (self.reset, self.reply))


def _task(work) -> asyncio.Task:
    """It goes on when the caller that began it does not wait; a repeat of the call finds it."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _outcome(task: asyncio.Task, context):
    try:
        return await asyncio.shield(task)
    except _Refusal as refusal:
        await context.abort(refusal.code, refusal.message)


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
    """All members run on one event loop; the author's code in a process of each episode."""

    def __init__(self, spec: EnvironmentSpec, nursery: Nursery):
        self._spec = spec
        self._nursery = nursery
        self._episodes: dict[str, _Episode] = {}
        self._finished = 0
        self._expired = 0
        self._errors = 0
        self._lost = 0
        self._draining = False

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
            episode = self._episodes[request.episode_id] = _Episode()
            episode.reset = _task(self._reset(request.episode_id, episode, _row(request)))
        if episode.turn >= 0:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION,
                                f"episode {request.episode_id} has begun already")
        return await _outcome(episode.reset, context)

    async def _reset(self, episode_id: str, episode: _Episode, row: dict[str, Any]):
        try:
            episode.process = await EpisodeProcess.start(self._nursery)
        except (NoMore, StartFailed, OSError) as e:
            await self._drop(episode_id, episode)
            raise _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED,
                           f"no process for another episode: {e!r}"[:1000]) from e
        try:
            said = await self._call(episode_id, episode, {"call": "reset", "row": row})
        except _Refusal:
            await self._drop(episode_id, episode)
            raise
        reply = contract.ResetReply()
        _show(said["observation"], reply.observation)
        return reply

    async def step(self, request, context):
        episode = self._episodes.get(request.episode_id)
        if episode is None or not episode.reset.done():
            await context.abort(grpc.StatusCode.NOT_FOUND,
                                f"episode {request.episode_id} is not known here; it was closed, lost, has "
                                "expired, or never was")
        if request.turn != episode.turn:
            if request.turn != episode.turn + 1 or episode.busy():
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION,
                                    f"turn {request.turn} follows {episode.turn}")
            episode.reply = _task(self._step(request.episode_id, episode, request.action,
                                             before=(episode.turn, episode.reply)))
            episode.turn = request.turn
        return await _outcome(episode.reply, context)

    async def _step(self, episode_id: str, episode: _Episode, action: str, before):
        try:
            said = await self._call(episode_id, episode, {"call": "step", "action": action})
        except _Refusal:
            episode.turn, episode.reply = before  # the turn was not taken
            raise
        reply = contract.StepReply(reward=said["reward"], done=said["done"], correct=said["correct"],
                                   feedback=said["feedback"], metrics=said["metrics"])
        _show(said["observation"], reply.observation)
        return reply

    async def close(self, request, context):
        await asyncio.shield(_task(self._forget(request.episode_id)))
        return contract.CloseReply()

    async def _call(self, episode_id: str, episode: _Episode, request: dict[str, Any]) -> dict[str, Any]:
        """What the author's code answers; a _Refusal where it raises, hangs or takes its process down."""
        call, limit = request["call"], self._spec.call_timeout_s
        episode.used = time.monotonic()
        try:
            said = await episode.process.call(request, limit)
        except (TimeoutError, Died) as e:
            hung = not isinstance(e, Died)
            closed = episode.process is None
            how = await self._drop(episode_id, episode)
            why = (f"{call}: the episode was closed" if closed else
                   f"{call} took longer than {limit:g} s: its process was killed" if hung else
                   f"{call}: its process {how}")
            if not closed:
                self._lost += 1
                log.warning("episode %s is lost: %s", episode_id, why)
            raise _Refusal(grpc.StatusCode.ABORTED, why) from None
        finally:
            episode.used = time.monotonic()
        if "error" not in said:
            return said
        self._errors += 1
        log.warning("%s failed: %s", call, said["error"])
        raise _Refusal(grpc.StatusCode.INVALID_ARGUMENT if said["bad_row"] else grpc.StatusCode.INTERNAL,
                       f"{call}: {said['error']}")

    async def _drop(self, episode_id: str, episode: _Episode) -> str:
        """Its process and its name are gone; says how the process ended."""
        if self._episodes.get(episode_id) is episode:
            del self._episodes[episode_id]
        process, episode.process = episode.process, None
        return await process.end() if process is not None else ""

    async def _forget(self, episode_id: str) -> None:
        episode = self._episodes.pop(episode_id, None)
        if episode is None:
            return
        self._finished += 1
        if not episode.reset.done():
            await asyncio.wait([episode.reset])  # until there is a process to be ended, or none will be
        # A step under way has nobody who waits for it any more: it is not waited for either.
        if episode.process is not None and not episode.busy():
            try:
                said = await episode.process.call({"call": "close"}, self._spec.call_timeout_s)
            except (TimeoutError, Died) as e:
                said = {"error": repr(e)}
            if "error" in said:  # nobody hears of it
                self._errors += 1
                log.warning("close failed: %s", said["error"])
        await self._drop(episode_id, episode)

    async def sweep(self) -> None:
        """Forgets, until cancelled, what nobody has stepped for too long."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = time.monotonic() - self._spec.idle_timeout_s
            for episode_id, episode in list(self._episodes.items()):
                if episode.used < oldest and not episode.busy():
                    self._expired += 1
                    _task(self._forget(episode_id))

    def state(self) -> dict[str, Any]:
        return {"phase": "draining" if self._draining else "serving",
                "detail": {"environment": self._spec.name, "version": self._spec.version,
                           "digest": self._spec.digest, "episodes": len(self._episodes),
                           "finished": self._finished, "expired": self._expired,
                           "errors": self._errors, "lost": self._lost}}

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


async def serve(spec: EnvironmentSpec, target: str, bind: str) -> None:
    """Until SIGTERM, SIGINT or Control.Drain. Prints one line of JSON when it listens. `target` is what
    `spec` was loaded from. Raises StartFailed."""
    nursery = Nursery(target)
    await nursery.start()
    try:
        await _serve(spec, nursery, bind)
    finally:
        await nursery.stop()


async def _serve(spec: EnvironmentSpec, nursery: Nursery, bind: str) -> None:
    stop, request_stop = stop_on_signals(_LAST_CALLS_S)
    process = f"environment-{spec.name}"
    server = _server()
    address = _listen(server, bind)
    servicer = EnvironmentServicer(spec, nursery)
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
