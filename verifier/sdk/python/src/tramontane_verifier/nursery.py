"""The process that loads an environment's file once, and of it makes a copy for each episode.

A copy has memory, session and process group of its own: it can be killed at any moment, with whatever
it has started, and takes nobody along. When the service is gone, so are all of them.

The service sends commands of fixed size: a copy is wanted, with the socket that it shall answer, or one
is to be ended. Each is answered with a process id (-1: there can be no more) and how it ended.
"""
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
import traceback

from tramontane_verifier import channel
from tramontane_verifier.environment import BadRow, as_step, load

COMMAND = struct.Struct("<cq")  # COPY or END, and whom
ANSWER = struct.Struct("<qi")   # process id, and the exit code that subprocess would tell
COPY, END = b"c", b"e"
_PR_SET_PDEATHSIG = 1


def _plain(observation):
    return observation if isinstance(observation, str) else [int(token) for token in observation or ()]


class _Episode:
    """Answers the calls of one episode. Everything it says is plain JSON."""

    def __init__(self, spec):
        self._spec = spec
        self._instance = None

    def answer(self, request):
        try:
            return getattr(self, request["call"])(request)
        except Exception as e:
            return {"error": f"{type(e).__name__}: {e}"[:1000], "bad_row": isinstance(e, BadRow)}

    def reset(self, request):
        self._instance = self._spec.make()
        return {"observation": _plain(self._instance.reset(request["row"]))}

    def step(self, request):
        step = as_step(self._instance.step(request["action"]))
        return {"observation": _plain(step.observation), "reward": step.reward, "done": bool(step.done),
                "correct": bool(step.correct), "feedback": str(step.feedback),
                "metrics": {str(name): float(value) for name, value in step.metrics.items()}}

    def close(self, request):
        if callable(close := getattr(self._instance, "close", None)):
            close()
        return {}


def _live(spec, sock) -> None:
    episode = _Episode(spec)
    while True:
        try:
            channel.send(sock, episode.answer(channel.receive(sock)))
        except channel.Closed:
            return


def _copy(spec, control, fd: int) -> int:
    try:
        pid = os.fork()
    except OSError:
        return -1
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        control.close()
        _live(spec, socket.socket(fileno=fd))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)  # what the file wants done at its end is not a copy's to do


def _end(pid: int) -> int:
    """Kills the copy and what it has started; not yet waited for, its number is nobody else's."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet, or nobody is left in it
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _serve(spec, control) -> None:
    copies = set()
    while True:
        data, fds, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(data) < COMMAND.size:
            break
        command, pid = COMMAND.unpack(data)
        code = 0
        if command == COPY:
            pid = _copy(spec, control, fds[0])
            copies.add(pid)
            os.close(fds[0])
        elif pid in copies:
            copies.discard(pid)
            code = _end(pid)
        control.sendall(ANSWER.pack(pid, code))
    for pid in copies - {-1}:
        _end(pid)


def main() -> None:
    target, fd = sys.argv[1], int(sys.argv[2])
    control = socket.socket(fileno=fd)
    os.dup2(2, 1)  # what the author's code prints is for people: the service's standard output is not
    try:
        spec = load(target)
    except BaseException:
        channel.send(control, {"error": traceback.format_exc(limit=-6)})
        raise SystemExit(1)
    gc.freeze()  # so that copies share the memory that they do not write
    channel.send(control, {"ready": True})
    try:
        _serve(spec, control)
    except (BrokenPipeError, ConnectionResetError):
        pass


if __name__ == "__main__":
    main()
