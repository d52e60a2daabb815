"""One step in an OpenEnv environment: reset, act with the completion, take the step's reward.

Wire: meta-pytorch/OpenEnv, `src/openenv/core/env_client.py`: a WebSocket at /ws that carries
{"type": "reset" | "step" | "close", "data"} and answers {"type": "observation", "data":
{observation, reward, done}} or {"type": "error", "data": {message}}. One connection is one episode.
Needs `pip install websockets`.
"""
import json
from typing import Any

from tramontane_verifier.adapters import _http
from tramontane_verifier.answers import behind_thoughts
from tramontane_verifier.spec import Spec, verifier


def _ask(socket, kind: str, data: dict[str, Any], timeout_s: float, url: str) -> dict[str, Any]:
    socket.send(json.dumps({"type": kind, "data": data}))
    try:
        reply = json.loads(socket.recv(timeout=timeout_s))
    except ValueError:
        raise _http.Unavailable(f"{url}: the answer to {kind} is not JSON") from None
    if not isinstance(reply, dict) or reply.get("type") != "observation":
        raise _http.Unavailable(f"{url}: {kind}: {reply!r:.300}")
    return _http.field(reply, "data", dict, url)


def make(url: str, action_field: str = "message", name: str = "openenv", version: str = "1.0.0",
         timeout_s: float = 60.0, reward_range: tuple[float, float] | None = None) -> Spec:
    """`url`: http(s)://host:port. A row's `params.reset` (seed, …) goes to reset, its
    `params.action` into the action beside the completion's answer."""
    where = url.rstrip("/").replace("http", "ws", 1) + "/ws"

    def judge(completion: str, params: dict[str, Any]) -> Any:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        try:
            with connect(where, open_timeout=timeout_s) as socket:
                _ask(socket, "reset", params.get("reset") or {}, timeout_s, where)
                action = {**(params.get("action") or {}), action_field: behind_thoughts(completion)}
                step = _ask(socket, "step", action, timeout_s, where)
                socket.send(json.dumps({"type": "close"}))
        except (OSError, TimeoutError, WebSocketException) as e:
            raise _http.Unavailable(f"{where}: {type(e).__name__}: {e}") from None
        reward = step.get("reward")
        if reward is None:
            return None  # the environment gives none for this step: not scored
        return {"reward": _http.field(step, "reward", (int, float), where),
                "feedback": "" if step.get("done") else "the episode is not over",
                "metrics": {"done": float(bool(step.get("done")))}}

    return verifier(name=name, version=version, timeout_s=timeout_s, reward_range=reward_range,
                    determinism="none", needs=("network",))(judge)
