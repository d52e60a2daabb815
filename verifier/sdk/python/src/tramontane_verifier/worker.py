"""The child process: imports the verifier's file and answers requests one after another.

The function runs in this process's main thread, so that SIGALRM and signal handlers work. The
parent may kill the whole process group at any moment.
"""
import ctypes
import os
import resource
import signal
import socket
import sys
import traceback

from tramontane_verifier import channel, outcome
from tramontane_verifier.spec import BadInput, load

_PR_SET_PDEATHSIG = 1


def _answer(spec, request):
    try:
        said = spec.call(request)
        if request.get("group"):
            return outcome.interpret_group(said, spec.reward_range, spec.perfect)
        return outcome.interpret(said, spec.reward_range, spec.perfect)
    except BadInput as e:
        return outcome.error("BAD_INPUT", str(e))
    except Exception:
        return outcome.error("VERIFIER_ERROR", traceback.format_exc(limit=-4))


def main() -> None:
    target, name, version = sys.argv[1:4]
    fd, memory_mb = int(sys.argv[4]), int(sys.argv[5])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if memory_mb > 0:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    sock = socket.socket(fileno=fd)
    # What the user's code prints is for people: the service's standard output is not.
    os.dup2(2, 1)
    try:
        spec = load(target, name, version)
    except BaseException:
        channel.send(sock, {"error": traceback.format_exc(limit=-6)})
        raise SystemExit(1)
    channel.send(sock, {"ready": True})
    while True:
        try:
            request = channel.receive(sock)
        except channel.Closed:
            return
        channel.send(sock, _answer(spec, request) | {"judged": outcome.judged(request)})


if __name__ == "__main__":
    main()
