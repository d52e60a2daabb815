"""What a verifier function returned, made into a result that can be trusted."""
import hashlib
import math
from typing import Any

_KEYS = {"reward", "status", "correct", "components", "extracted", "feedback", "metrics"}
_MAX_TEXT = 2000
_MAX_NUMBERS = 64  # components, and metrics: more would drown a dashboard
_MAX_NAME = 128
_SLACK = 1e-9


def error(status: str, feedback: str) -> dict[str, Any]:
    return {"status": status, "feedback": feedback[:_MAX_TEXT]}


def judged(request: dict[str, Any]) -> str:
    """Which completion a result is about (VerifyResult.judged); told by the process that judged it."""
    completions = [sample.get("completion", "") for sample in request.get("group") or [request]]
    texts = (request.get("prompt", ""), *completions, request.get("answer", ""))
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()[:16]


def _number(value: Any, what: str) -> float:
    # numpy scalars and the like have __float__; strings would too easily be a mistake.
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise ValueError(f"{what} is {type(value).__name__}, not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {number}")
    return number


def _numbers(value: Any, what: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {type(value).__name__}, not a dictionary")
    if len(value) > _MAX_NUMBERS or any(len(str(k)) > _MAX_NAME for k in value):
        raise ValueError(f"{what} has more than {_MAX_NUMBERS} entries, or overlong names")
    return {str(k): _number(v, f"{what}[{k!r}]") for k, v in value.items()}


def _from_dict(value: dict[str, Any], perfect: float) -> dict[str, Any]:
    if unknown := set(value) - _KEYS:
        raise ValueError(f"unknown keys {sorted(map(str, unknown))}")
    status = str(value.get("status", "scored")).upper()
    if status not in ("SCORED", "POLICY_FAILURE"):
        raise ValueError(f"status {status.lower()!r} is neither 'scored' nor 'policy_failure'")
    components = _numbers(value.get("components") or {}, "components")
    result: dict[str, Any] = {
        "status": status,
        "components": components,
        "metrics": _numbers(value.get("metrics") or {}, "metrics"),
        "extracted": str(value.get("extracted") or "")[:_MAX_TEXT],
        "feedback": str(value.get("feedback") or "")[:_MAX_TEXT],
    }
    reward = value.get("reward")
    if reward is None and components:
        reward = math.fsum(components.values())
    if reward is not None:
        result["reward"] = _number(reward, "reward")
        if components and abs(math.fsum(components.values()) - result["reward"]) > 1e-6:
            raise ValueError("the components do not sum to the reward")
    elif status == "SCORED":
        raise ValueError("no reward and no components")
    correct = value.get("correct")
    reward = result.get("reward")
    result["correct"] = bool(correct) if correct is not None else (
        reward is not None and reward >= perfect - _SLACK)
    return result


def interpret(value: Any, reward_range: tuple[float, float] | None, perfect: float) -> dict[str, Any]:
    """A result dictionary with `status` and, exactly when scored, a finite reward in range. A reward
    of `perfect` or more is correct unless the function says otherwise. None is SKIPPED."""
    if value is None:
        return error("SKIPPED", "the verifier has nothing to say about this sample")
    try:
        result = _from_dict(value if isinstance(value, dict) else {"reward": value}, perfect)
        reward = result.get("reward")
        if reward is not None and reward_range is not None:
            low, high = reward_range
            if not low - _SLACK <= reward <= high + _SLACK:
                raise ValueError(f"reward {reward} is outside {reward_range}")
    except (ValueError, TypeError, OverflowError) as problem:
        return error("VERIFIER_ERROR", f"the verifier returned nonsense: {problem}")
    return result


def interpret_group(values: list[Any], reward_range, perfect: float) -> dict[str, Any]:
    """One result a sample. Nonsense about one of them spoils all: they are relative to each other."""
    group = [interpret(value, reward_range, perfect) for value in values]
    for result in group:
        if result["status"] == "VERIFIER_ERROR":
            return result
    return {"status": "SCORED", "group": group}
