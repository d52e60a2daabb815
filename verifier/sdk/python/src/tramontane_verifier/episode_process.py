"""An episode of an environment as a process, and the nursery it comes from, as the service sees them."""
import asyncio
import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import sys
from typing import Any

from tramontane_verifier import channel
from tramontane_verifier.nursery import ANSWER, COMMAND, COPY, END
from tramontane_verifier.pool import StartFailed

_START_TIMEOUT_S = 120.0  # imports can be slow
_ANSWER_TIMEOUT_S = 30.0


class Died(Exception):
    """The episode's process has ended by itself."""


class NoMore(Exception):
    """The machine has no room for another process."""


class Nursery:
    """Makes and ends processes, one after another on a thread of its own, for the event loop."""

    def __init__(self, target: str):
        self._target = target
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    async def start(self) -> None:
        """Raises StartFailed when the author's file cannot be loaded."""
        await self._ask(self._start)

    async def copy(self) -> tuple[int, socket.socket]:
        """A new process, and the socket that it answers. Raises NoMore, StartFailed."""
        return await self._ask(self._copy)

    async def end(self, pid: int) -> int:
        """Kills it with all that it started; returns its exit code."""
        return await self._ask(self._end, pid)

    async def stop(self) -> None:
        await self._ask(self._stop)
        self._thread.shutdown(wait=False)

    async def _ask(self, function, *arguments):
        # A caller that goes away must not leave a process behind that nobody knows.
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments))

    # --- on the thread

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tramontane_verifier.nursery", self._target, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            message = channel.receive(ours, _START_TIMEOUT_S)
        except (channel.Closed, TimeoutError) as e:
            message = {"error": f"the process did not come up: {e!r}"}
        self._process, self._control = process, ours
        if "error" in message:
            self._stop()
            raise StartFailed(str(message["error"]))
        ours.settimeout(_ANSWER_TIMEOUT_S)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._control.close()  # it ends its copies, and itself
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, command: bytes, pid: int, fds: list[int]) -> tuple[int, int]:
        socket.send_fds(self._control, [COMMAND.pack(command, pid)], fds)
        data = self._control.recv(ANSWER.size, socket.MSG_WAITALL)
        if len(data) < ANSWER.size:
            raise ConnectionResetError("the nursery is gone")
        return ANSWER.unpack(data)

    def _copy(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            for again in (True, False):
                try:
                    if self._process is None:
                        self._start()
                    pid, _ = self._send(COPY, 0, [theirs.fileno()])
                    break
                except (OSError, StartFailed):  # it has died, and its copies with it
                    self._stop()
                    if not again:
                        ours.close()
                        raise
        if pid < 0:
            ours.close()
            raise NoMore
        return pid, ours

    def _end(self, pid: int) -> int:
        if self._process is None:
            return -signal.SIGKILL
        try:
            return self._send(END, pid, [])[1]
        except OSError:
            self._stop()
            return -signal.SIGKILL


class EpisodeProcess:
    """One call at a time. On the event loop."""

    def __init__(self, nursery: Nursery, pid: int, reader, writer):
        self._nursery, self._pid = nursery, pid
        self._reader, self._writer = reader, writer

    @classmethod
    async def start(cls, nursery: Nursery) -> "EpisodeProcess":
        pid, sock = await nursery.copy()
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(nursery, pid, reader, writer)

    async def call(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Raises TimeoutError when no answer has come, and Died when none will."""
        try:
            return await asyncio.wait_for(self._exchange(request), timeout_s)
        except asyncio.TimeoutError:
            raise TimeoutError from None

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        data = channel.frame(request)
        try:
            self._writer.write(data)
            await self._writer.drain()
            size = channel.size_of(await self._reader.readexactly(channel.SIZE_BYTES))
            return channel.parse(await self._reader.readexactly(size))
        except (OSError, EOFError, channel.Closed) as e:
            raise Died from e

    async def end(self) -> str:
        """Kills it with all that it started, and says how it ended."""
        with contextlib.suppress(OSError):
            self._writer.close()
        code = await self._nursery.end(self._pid)
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
