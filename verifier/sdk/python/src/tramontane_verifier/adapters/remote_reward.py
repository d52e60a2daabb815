"""A reward server of the kind that slime (`rm_url`) and OpenRLHF (`remote_rm_url`) ask.

Wires: THUDM/slime `slime/rollout/rm_hub/__init__.py` remote_rm ({prompt, response, label} → a number,
or an object with `reward`, `score` or `rewards`); OpenRLHF `openrlhf/utils/remote_rm_utils.py`
({query, prompts, labels} → {rewards: [number]}; `query` is prompt and response in one).
"""
from typing import Any

from tramontane_verifier.adapters import _http
from tramontane_verifier.spec import Spec, verifier


def _number(reply: Any, key: str, url: str) -> float:
    """The one reward in a reply of any of the shapes above."""
    value = reply
    if isinstance(reply, dict):
        keys = [key] if key else [k for k in ("rewards", "reward", "scores", "score") if k in reply]
        value = reply.get(keys[0]) if keys else None
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _http.Unavailable(f"{url}: no reward in {reply!r:.200}")
    return float(value)


def make(url: str, dialect: str = "slime", key: str = "", name: str = "remote_reward",
         version: str = "1.0.0", timeout_s: float = 60.0,
         reward_range: tuple[float, float] | None = None) -> Spec:
    """`key` names the reward's field in the reply; empty: found by itself."""
    if dialect not in ("slime", "openrlhf"):
        raise ValueError("dialect is slime or openrlhf")

    def judge(prompt: str, completion: str, answer: str) -> float:
        body = ({"prompt": prompt, "response": completion, "label": answer} if dialect == "slime" else
                {"query": [prompt + completion], "prompts": [prompt], "labels": [answer]})
        return _number(_http.post(url, body, timeout_s), key, url)

    return verifier(name=name, version=version, timeout_s=timeout_s, reward_range=reward_range,
                    determinism="none", needs=("network",))(judge)
