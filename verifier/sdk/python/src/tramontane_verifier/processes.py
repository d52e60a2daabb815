"""What the processes of a session do, as the kernel tells (Linux)."""
import os


def _fields(path: str) -> list[str]:
    """Of /proc/…/stat, from the state on: state, parent, process group, session, …"""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _is_at_work(pid: str) -> bool:
    for thread in os.listdir(f"/proc/{pid}/task"):
        if _fields(f"/proc/{pid}/task/{thread}/stat")[0] == "R":
            return True
    return False


def sessions_at_work(sessions: set[int]) -> bool:
    """Whether any thread of these sessions runs or waits for a processor."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(_fields(f"/proc/{pid}/stat")[3]) in sessions and _is_at_work(pid):
                return True
        except (OSError, IndexError):
            continue  # it has just ended
    return False
