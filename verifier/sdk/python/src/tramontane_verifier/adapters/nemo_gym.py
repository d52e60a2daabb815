"""A NeMo Gym resources server, asked by its POST /verify.

Wire: NVIDIA-NeMo/Gym, `nemo_gym/base_resources_server.py` (BaseVerifyRequest: responses_create_params
and response as in OpenAI's Responses API, plus the row's own fields; the reply echoes them and adds
`reward`). The row's fields come from params, `expected_answer` from the row's answer unless the
params have one.
"""
import math
from typing import Any

from tramontane_verifier.adapters import _http
from tramontane_verifier.spec import Spec, verifier

_FAILED = ("judge_failed", "verification_failed", "error")  # marks of a grader that did not judge


def _response(text: str, truncated: bool) -> dict[str, Any]:
    return {
        "id": "response", "created_at": 0.0, "model": "policy", "object": "response",
        "output": [{"id": "message", "type": "message", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": text, "annotations": []}]}],
        "parallel_tool_calls": False, "tool_choice": "none", "tools": [],
        "incomplete_details": {"reason": "max_output_tokens"} if truncated else None,
    }


def make(url: str, name: str = "nemo_gym", version: str = "1.0.0", timeout_s: float = 60.0,
         reward_range: tuple[float, float] = (0.0, 1.0)) -> Spec:
    endpoint = url.rstrip("/") + "/verify"

    def judge(prompt: str, messages: list, completion: str, answer: str, finish_reason: str,
              params: dict[str, Any]) -> Any:
        asked = messages or [{"role": "user", "content": prompt}]
        reply = _http.post(endpoint, {
            "expected_answer": answer, **params,
            "responses_create_params": {"input": asked},
            "response": _response(completion, finish_reason == "length"),
        }, timeout_s)
        reward = _http.field(reply, "reward", (int, float), endpoint)
        if failed := [key for key in _FAILED if reply.get(key)]:
            raise _http.Unavailable(f"{endpoint}: {failed[0]}: {reply[failed[0]]!r:.200}")
        components = reply.get("reward_components") or {}
        return {"reward": reward, "extracted": str(reply.get("extracted_answer") or ""),
                "metrics": {k: v for k, v in components.items()
                            if isinstance(v, (int, float)) and math.isfinite(v)}}

    return verifier(name=name, version=version, timeout_s=timeout_s, reward_range=reward_range,
                    needs=("network",))(judge)
