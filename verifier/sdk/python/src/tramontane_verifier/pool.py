"""Worker processes, each driven by one thread: started, fed, killed at a timeout, replaced.

The pool is elastic. While all workers are blocked (they run, and want no processor: a sleep, a slow
service) and requests wait, more are started, up to a bound; those that idle are let go again."""
import concurrent.futures
import contextlib
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
from tramontane_verifier.processes import sessions_at_work

log = logging.getLogger("tramontane_verifier")

_START_TIMEOUT_S = 120.0  # imports can be slow; the execution clock does not run yet
_RESTART_PAUSE_S = 1.0
_BLOCKED_AFTER_S = 0.1  # a request that has run for so long may be blocked
_LOOK_INTERVAL_S = 0.05
_IDLE_S = 30.0  # after which a worker beyond the first ones ends


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
    """Thread-safe. `start` blocks until `workers` have loaded the file, and raises StartFailed.
    `most_workers` bounds how many there may be while they are blocked; 0: as many as at the start."""

    def __init__(self, target: str, workers: int, max_waiting: int, default_timeout_s: float,
                 recycle_after: int = 1000, memory_mb: int = 0, name: str = "", version: str = "",
                 most_workers: int = 0):
        self._target = (target, name, version)
        self._default_timeout_s = default_timeout_s
        self._recycle_after = recycle_after
        self._memory_mb = memory_mb
        self._queue: queue.Queue[Job | None] = queue.Queue(max_waiting)
        self._stopping = False
        self._lasting = workers
        self._children: list[_Child | None] = [None] * max(workers, most_workers)
        self._threads: list[threading.Thread | None] = [None] * len(self._children)
        self._busy_since: list[float | None] = [None] * len(self._children)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # a request has come, or the end
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.kills = 0  # timeouts and crashes so far
        self.restarts = 0  # processes replaced so far, for whatever reason
        self._idle_since: dict[int, float] = {}  # by worker that waits for a request
        self._waited = {"requests": 0.0, "start": 0.0}

    @property
    def workers(self) -> int:
        """How many requests may be worked on at once."""
        return len(self._children)

    @property
    def alive(self) -> int:
        """Worker processes that there are now."""
        with self._lock:
            return sum(child is not None for child in self._children)

    def waited_s(self) -> dict[str, float]:
        """Seconds that all workers together have waited so far: for requests, and for the start of a
        process when a request was there."""
        now = time.monotonic()
        with self._lock:
            idle = sum(now - since for since in self._idle_since.values())
            return self._waited | {"requests": self._waited["requests"] + idle}

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken; of those cancelled, some may be counted still."""
        return self._queue.qsize()

    @property
    def running_workers(self) -> int:
        with self._lock:
            return sum(thread is not None for thread in self._threads)

    def start(self) -> None:
        # One after another: if the file cannot be loaded, once is enough to say so.
        for i in range(self._lasting):
            self._children[i] = _Child(self._target, self._memory_mb)
        for i in range(self._lasting):
            self._start_thread(i)
        if self.workers > self._lasting:
            self._keeper.start()

    def submit(self, request: dict[str, Any], exec_timeout_s: float = 0.0,
               queue_deadline_s: float = 0.0) -> Job:
        job = Job(request, exec_timeout_s or self._default_timeout_s, queue_deadline_s)
        if self._stopping:
            raise Overloaded("stopping")
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise Overloaded("the verifier's queue is full") from None
        with self._changed:
            self._changed.notify()
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
        with self._changed:
            self._changed.notify_all()
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
        if self._keeper.is_alive():
            self._keeper.join(timeout=10)
        with self._lock:
            threads = [thread for thread in self._threads if thread is not None]
        deadline = time.monotonic() + 10
        for thread in threads:
            # One that idled may have ended by itself: room for its word is not waited for.
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(queue.Full):
                    self._queue.put_nowait(None)
                thread.join(timeout=0.1)

    # --- the keeper's thread

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or not self._queue.empty())
                if self._stopping:
                    return
                index = self._free_place()
                # Woken early by requests that come meanwhile would be a busy loop: only by the end.
                self._changed.wait_for(lambda: self._stopping, _LOOK_INTERVAL_S)
            if index is None or self._queue.empty() or not self._all_blocked():
                continue
            try:
                child = _Child(self._target, self._memory_mb)
            except (StartFailed, OSError) as e:
                log.warning("no further worker: %s", e)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, 10 * _RESTART_PAUSE_S)
                continue
            self._adopt(index, child)

    def _adopt(self, index: int, child: _Child) -> None:
        with self._lock:
            self._children[index] = child
            if self._stopping:
                child.kill()
                return
        self._start_thread(index)
        log.info("all workers are blocked and requests wait: there are %d workers now",
                 self.running_workers)

    def _free_place(self) -> int | None:
        return next((i for i, thread in enumerate(self._threads) if thread is None), None)

    def _all_blocked(self) -> bool:
        """Every worker has been at its request for a while, and nothing of it wants a processor: more
        workers would then cost the machine nothing."""
        now = time.monotonic()
        with self._lock:
            places = [i for i, thread in enumerate(self._threads) if thread is not None]
            for i in places:
                since = self._busy_since[i]
                if since is None or now - since < _BLOCKED_AFTER_S or self._children[i] is None:
                    return False  # it idles, has just begun, or is being replaced
            sessions = {self._children[i].process.pid for i in places}
        return not sessions_at_work(sessions)

    def _start_thread(self, index: int) -> None:
        thread = threading.Thread(target=self._work, args=(index,), daemon=True)
        with self._lock:
            self._threads[index] = thread
        thread.start()

    # --- the workers' threads

    def _work(self, index: int) -> None:
        while not self._stopping:
            with self._lock:
                self._idle_since[index] = time.monotonic()
            job = self._next_job(index)
            with self._lock:
                self._waited["requests"] += time.monotonic() - self._idle_since.pop(index)
            if job is None:
                break
            if not job.future.set_running_or_notify_cancel():
                continue
            self._busy_since[index] = time.monotonic()
            try:
                job.future.set_result(self._run(index, job))
            except Exception as e:  # never leave anybody waiting
                log.exception("worker thread %d", index)
                job.future.set_result(outcome.error("VERIFIER_ERROR", repr(e)))
            self._busy_since[index] = None
        self._drop(index)
        with self._lock:
            self._threads[index] = None

    def _next_job(self, index: int) -> Job | None:
        """None: the thread has to end."""
        try:
            return self._queue.get(timeout=None if index < self._lasting else _IDLE_S)
        except queue.Empty:
            return None

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
            start = time.monotonic()
            child = _Child(self._target, self._memory_mb)
            with self._lock:
                self._waited["start"] += time.monotonic() - start
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
