"""How a function wants to be called: our own way, or unchanged as TRL, verl or verifiers call it.

A style turns a request into the function's arguments and what it returns into one value a sample.
Sources: TRL `GRPOTrainer` (reward functions), verl `custom_reward_function` (compute_score), and
verifiers 0.1 `Rubric.call_reward_func` / `call_group_reward_func`.
"""
import asyncio
import inspect
import re
from typing import Any, Callable

# Given to a function that asks for them; anything else is looked up in the row's params.
ARGUMENTS = (
    "prompt",
    "completion",
    "answer",
    "params",
    "messages",
    "completion_tokens",
    "finish_reason",
    "group_id",
    "policy_version",
    "seed",
)
GROUP_ARGUMENTS = ("completions", "finish_reasons")
_VERIFIERS_NAMES = ("prompt", "completion", "answer", "info", "state", "task")
_VERIFIERS_PLURAL = {f"{name}s": name for name in _VERIFIERS_NAMES}

# Trainers decode without special tokens, Tramontane keeps them. What ends a completion is taken off
# for functions that were written for those trainers.
_END_TOKEN = re.compile(r"(<\|[^|<>]{1,32}\|>|</s>|<eos>|<end_of_turn>)\s*\Z")


class BadInput(Exception):
    """The row cannot be judged, by its own fault."""


def run_to_end(value: Any) -> Any:
    """Awaits what an async function returned. One event loop a process, kept: clients that such
    functions cache belong to it."""
    if not inspect.isawaitable(value):
        return value
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()

    async def wait():
        return await value

    return _loop.run_until_complete(wait())


_loop: asyncio.AbstractEventLoop | None = None


def detect(function: Callable[..., Any]) -> str:
    names = set(inspect.signature(function).parameters)
    if "solution_str" in names:
        return "verl"
    if names & {"answers", "infos", "states", "tasks"}:
        return "verifiers"
    if "completions" in names and names & {"prompts", "kwargs", "completion_ids", "completions_ids"}:
        return "trl"
    if "completion" in names and names & {"info", "state", "task", "parser"}:
        return "verifiers"
    return "tramontane"


def without_end_token(completion: str) -> str:
    while match := _END_TOKEN.search(completion):
        completion = completion[: match.start()]
    return completion


def _select(function, offered: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the function names: from `offered`, else from the row's params."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            given.update({k: v for k, v in {**params, **offered}.items() if k not in given})
        elif name in offered:
            given[name] = offered[name]
        elif name in params:
            given[name] = params[name]
        elif parameter.default is inspect.Parameter.empty:
            raise BadInput(f"the row's params have no {name!r}")
    return given


def _samples(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Each sample as a request of its own."""
    group = request.get("group")
    return [{**request, **sample} for sample in group] if group else [request]


def call_tramontane(function, request: dict[str, Any], group: bool) -> list[Any]:
    params = request.get("params") or {}
    offered = {name: request.get(name) for name in ARGUMENTS} | {"params": params}
    if not group:
        return [run_to_end(function(**_select(function, offered, params)))]
    samples = _samples(request)
    del offered["completion"], offered["finish_reason"], offered["completion_tokens"]
    offered["completions"] = [sample.get("completion", "") for sample in samples]
    offered["finish_reasons"] = [sample.get("finish_reason", "") for sample in samples]
    return _as_list(run_to_end(function(**_select(function, offered, params))), len(samples))


def _as_list(value: Any, count: int) -> list[Any]:
    values = list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, dict)) else None
    if values is None or len(values) != count:
        raise ValueError(f"a function over {count} samples must return {count} values, not {value!r:.100}")
    return values


def call_trl(function, request: dict[str, Any], group: bool) -> list[Any]:
    samples = _samples(request)
    count, chat = len(samples), request.get("messages") or []
    texts = [without_end_token(sample.get("completion", "")) for sample in samples]
    metrics: dict[str, float] = {}
    gold = request.get("answer")
    columns = {"answer": gold, "solution": gold, "ground_truth": gold, **(request.get("params") or {})}
    offered: dict[str, Any] = {name: [value] * count for name, value in columns.items()}
    offered["prompts"] = [chat or request.get("prompt", "")] * count
    offered["completions"] = [
        [{"role": "assistant", "content": text}] if chat else text for text in texts
    ]
    offered["trainer_state"] = None
    offered["log_extra"] = lambda column, values: None
    offered["log_metric"] = lambda name, value: metrics.__setitem__(str(name), value)
    values = _as_list(run_to_end(function(**_select(function, offered, {}))), count)
    return [value if value is None or not metrics else {"reward": value, "metrics": metrics}
            for value in values]


def call_verl(function, request: dict[str, Any], group: bool) -> list[Any]:
    params = request.get("params") or {}
    offered = {
        "data_source": params.get("data_source", ""),
        "solution_str": without_end_token(request.get("completion", "")),
        "ground_truth": params.get("reward_model", {}).get("ground_truth", request.get("answer")),
        "extra_info": params.get("extra_info", {}),
    }
    return [_from_verl(run_to_end(function(**_select(function, offered, params))))]


def _from_verl(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "score" not in value:
        raise ValueError("compute_score returned a dictionary without 'score'")
    result: dict[str, Any] = {"reward": value["score"], "metrics": {}}
    for key, item in value.items():
        if key == "acc":
            result["correct"] = bool(item)
        elif key == "pred":
            result["extracted"] = "" if item is None else str(item)
        elif key != "score" and hasattr(item, "__float__"):
            result["metrics"][str(key)] = float(item)
    return result


def _verifiers_offer(request: dict[str, Any]) -> dict[str, Any]:
    """What a rubric function may name. Completions are message lists, as in verifiers' default."""
    params = request.get("params") or {}
    prompt = request.get("messages") or [{"role": "user", "content": request.get("prompt", "")}]
    completion = [{"role": "assistant", "content": without_end_token(request.get("completion", ""))}]
    info = params.get("info", {})
    offered = {"prompt": prompt, "completion": completion, "answer": request.get("answer", ""),
               "info": info, "task": params.get("task", "default")}
    return {**offered, "state": {**offered, "turn": 1, "responses": []}}


def call_verifiers(function, request: dict[str, Any], group: bool) -> list[Any]:
    params = request.get("params") or {}
    each = [_verifiers_offer(sample) for sample in _samples(request)]
    if not group:
        return [run_to_end(function(**_select(function, each[0], params)))]
    offered = {plural: [one[name] for one in each] for plural, name in _VERIFIERS_PLURAL.items()}
    return _as_list(run_to_end(function(**_select(function, offered, params))), len(each))


CALLS: dict[str, Callable[..., list[Any]]] = {
    "tramontane": call_tramontane,
    "trl": call_trl,
    "verl": call_verl,
    "verifiers": call_verifiers,
}


def required_params(function, style: str, group: bool) -> list[str]:
    """The names without which a row cannot be judged."""
    offered = {
        "tramontane": {*ARGUMENTS, *(GROUP_ARGUMENTS if group else ())},
        "trl": {"prompts", "completions", "answer", "solution", "ground_truth", "trainer_state",
                "log_extra", "log_metric"},
        "verl": {"data_source", "solution_str", "ground_truth", "extra_info"},
        "verifiers": {*_VERIFIERS_NAMES, *_VERIFIERS_PLURAL},
    }[style]
    return [name for name, parameter in inspect.signature(function).parameters.items()
            if name not in offered and parameter.default is inspect.Parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
