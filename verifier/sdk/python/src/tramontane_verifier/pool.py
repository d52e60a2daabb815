"""Worker processes, each driven by one thread: started, fed, killed at a timeout, replaced."""
import concurrent.futures
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tramontane_verifier import channel, outcome

log = logging.getLogger("tramontane_verifier")

_START_TIMEOUT_S = 120.0  # imports can be slow; the execution clock does not run yet
_RESTART_PAUSE_S = 1.0


class Overloaded(Exception):
    """The queue is full, or the pool is stopping."""


class StartFailed(Exception):
    """The verifier's file could not be loaded."""


class _Child:
    """One worker process. Used by one thread."""

    def __init__(self, target: tuple[str, str, str], memory_mb: int):
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.calls = 0
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tramontane_verifier.worker", *target,
                 str(theirs.fileno()), str(memory_mb)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a group of its own, killed as a whole
            )
        try:
            message = channel.receive(ours, _START_TIMEOUT_S)
        except (channel.Closed, TimeoutError) as e:
            self.kill()
            raise StartFailed(f"the worker process did not come up: {e!r}") from e
        if "error" in message:
            self.kill()
            raise StartFailed(str(message["error"]))

    def kill_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        self.kill_group()
        self.process.wait()
        self.socket.close()

    def how_it_ended(self) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


@dataclass
class Job:
    """One request on its way. `future` becomes the result dictionary (outcome.py), with
    queue_seconds and exec_seconds."""

    request: dict[str, Any]
    exec_timeout_s: float
    queue_deadline_s: float
    future: concurrent.futures.Future = field(default_factory=concurrent.futures.Future)
    submitted: float = field(default_factory=time.monotonic)
    child: _Child | None = None  # that works on it now
    cancelled: bool = False


class Pool:
    """Thread-safe. `start` blocks until every worker has loaded the file, and raises StartFailed."""

    def __init__(self, target: str, workers: int, max_waiting: int, default_timeout_s: float,
                 recycle_after: int = 1000, memory_mb: int = 0, name: str = "", version: str = ""):
        self._target = (target, name, version)
        self._default_timeout_s = default_timeout_s
        self._recycle_after = recycle_after
        self._memory_mb = memory_mb
        self._queue: queue.Queue[Job | None] = queue.Queue(max_waiting)
        self._stopping = False
        self._children: list[_Child | None] = [None] * workers
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(workers)
        ]
        self.kills = 0  # timeouts and crashes so far
        self.restarts = 0  # processes replaced so far, for whatever reason

    @property
    def workers(self) -> int:
        return len(self._children)

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken; of those cancelled, some may be counted still."""
        return self._queue.qsize()

    def start(self) -> None:
        # One after another: if the file cannot be loaded, once is enough to say so.
        for i in range(self.workers):
            self._children[i] = _Child(self._target, self._memory_mb)
        for thread in self._threads:
            thread.start()

    def submit(self, request: dict[str, Any], exec_timeout_s: float = 0.0,
               queue_deadline_s: float = 0.0) -> Job:
        job = Job(request, exec_timeout_s or self._default_timeout_s, queue_deadline_s)
        if self._stopping:
            raise Overloaded("stopping")
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise Overloaded("the verifier's queue is full") from None
        return job

    def cancel(self, job: Job) -> None:
        """Takes it out of the queue, or kills the process that works on it; nothing when it is done."""
        with self._lock:
            job.cancelled = True
            if not job.future.cancel() and job.child is not None:
                job.child.kill_group()

    def stop(self) -> None:
        """Kills what runs; what waits is cancelled."""
        self._stopping = True
        with self._lock:
            for child in self._children:
                if child is not None:
                    child.kill_group()
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.future.cancel()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def _work(self, index: int) -> None:
        while not self._stopping:
            job = self._queue.get()
            if job is None:
                break
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(self._run(index, job))
            except Exception as e:  # never leave anybody waiting
                log.exception("worker thread %d", index)
                job.future.set_result(outcome.error("VERIFIER_ERROR", repr(e)))
        self._drop(index)

    def _run(self, index: int, job: Job) -> dict[str, Any]:
        try:
            child = self._child(index)
        except StartFailed as e:
            time.sleep(_RESTART_PAUSE_S)  # a file that broke meanwhile must not spin
            return outcome.error("VERIFIER_ERROR", f"the verifier's file cannot be loaded: {e}")
        waited = time.monotonic() - job.submitted
        if 0 < job.queue_deadline_s < waited:
            return outcome.error("OVERLOADED", "waited longer than queue_deadline_s") | {
                "queue_seconds": waited}
        start = time.monotonic()
        result = self._execute(index, child, job)
        return result | {"queue_seconds": waited, "exec_seconds": time.monotonic() - start}

    def _execute(self, index: int, child: _Child, job: Job) -> dict[str, Any]:
        with self._lock:
            if job.cancelled:
                return outcome.error("CANCELLED", "cancelled")
            job.child = child
        try:
            channel.send(child.socket, job.request)
            child.calls += 1
            return channel.receive(child.socket, job.exec_timeout_s)
        except TimeoutError:
            self.kills += 1
            self._drop(index)
            log.warning("killed: %s ran longer than %.3g s", job.request.get("request_id"),
                        job.exec_timeout_s)
            return outcome.error("TIMEOUT", f"execution took longer than {job.exec_timeout_s:g} s")
        except channel.Closed:
            self.kills += 1
            how = child.how_it_ended()
            self._drop(index)
            if job.cancelled:
                return outcome.error("CANCELLED", "cancelled while it ran")
            log.warning("worker %s at %s", how, job.request.get("request_id"))
            return outcome.error("VERIFIER_ERROR", f"the verifier's process {how}")
        finally:
            with self._lock:
                job.child = None  # a late cancellation must not hit the next job's process

    def _child(self, index: int) -> _Child:
        child = self._children[index]
        worn = child is not None and child.calls >= self._recycle_after
        if child is not None and (worn or child.process.poll() is not None):
            self._drop(index)
            child = None
        if child is None:
            child = _Child(self._target, self._memory_mb)
            with self._lock:
                self.restarts += 1
                self._children[index] = child
                if self._stopping:
                    child.kill()
        return child

    def _drop(self, index: int) -> None:
        with self._lock:
            child, self._children[index] = self._children[index], None
        if child is not None:
            child.kill()
