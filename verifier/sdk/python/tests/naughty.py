"""A verifier that does what the completion tells it: every way in which user code misbehaves."""
import os
import signal
import sys
import threading
import time

from tramontane_verifier import verifier


@verifier(name="naughty", version="0.3.0", timeout_s=5, components=("format", "accuracy"))
def naughty(completion, answer, params, seed, flavour="plain"):
    if completion == "echo":
        print("users print things", flush=True)
        return {"reward": 1.0, "extracted": f"{answer}/{params}/{seed}/{flavour}"}
    if completion == "hang":
        while True:
            pass
    if completion == "sleep":
        time.sleep(0.3)
        return 0.25
    if completion == "nap":
        time.sleep(240)
    if completion == "fork and hang":
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)
    if completion == "alarm":
        class TooSlow(Exception):
            pass

        def ring(number, frame):
            raise TooSlow

        assert threading.current_thread() is threading.main_thread()
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            while True:
                pass
        except TooSlow:
            return 0.75
    if completion == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if completion == "exit":
        os._exit(3)
    if completion == "sys.exit":
        sys.exit(4)
    if completion == "raise":
        raise RuntimeError("user code is broken here")
    if completion == "sleep and pid":
        time.sleep(0.3)
    if "pid" in completion:
        return {"reward": 0.0, "extracted": str(os.getpid())}
    return {
        "none": None,
        "nan": float("nan"),
        "inf": float("inf"),
        "too much": 7.0,
        "text": "1.0",
        "true": True,
        "zero": 0,
        "components": {"components": {"format": 0.1, "accuracy": 0.9}},
        "wrong sum": {"reward": 1.0, "components": {"format": 0.1}},
        "failure": {"status": "policy_failure", "reward": 0.0, "feedback": "did not compile"},
        "empty dict": {},
        "unknown key": {"rewards": 1.0},
        "wrong but high": {"reward": 1.0, "correct": False},
    }[completion]
