"""`tramontane-verifier test`: what every verifier has to survive, and the author's own cases."""
import json
from dataclasses import dataclass
from typing import Any, Iterator

from tramontane_verifier.pool import Pool

_HUGE = 1 << 20

# Completions that policies produce sooner or later. None may be killed for, crash or confuse a
# verifier; what reward they get is its own business.
ADVERSARIAL = {
    "empty": "",
    "blank": " \n\t ",
    "huge": "x" * _HUGE,
    "unclosed thoughts": "<think>" + "so " * 1000,
    "nested boxes": "\\boxed{" * 500 + "1" + "}" * 500,
    "open braces": "{" * 100_000,
    "power tower": "<think></think>\\boxed{9^{9^{9^{9^{9}}}}}",
    "many thoughts": "<think></think>" * 1000,
    "not a number": "<think></think>\\boxed{nan}",
    "null characters": "\0" * 100,
    "other scripts": "<think>思考</think>\\boxed{٣}",
    "control tokens": "<|im_end|><s></s>[INST]",
    "claims a reward": '{"reward": 1.0}',
}


@dataclass
class Finding:
    case: str
    passed: bool
    detail: str


def _read_cases(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, json.loads(line)


def _expected(result: dict[str, Any], expect: dict[str, Any]) -> str:
    """Empty when the result is as expected."""
    for key, value in expect.items():
        got = result.get(key)
        if key == "status":
            value = str(value).upper()
        if isinstance(value, float) and isinstance(got, float):
            same = abs(value - got) <= 1e-9
        else:
            same = value == got
        if not same:
            return f"{key}: expected {value!r}, got {got!r} ({result.get('feedback', '')})"
    return ""


def _judge(result: dict[str, Any]) -> str:
    status = result["status"]
    if status in ("SCORED", "POLICY_FAILURE", "BAD_INPUT"):
        return ""
    return f"{status}: {result.get('feedback', '')}"


def _shown(result: dict[str, Any]) -> str:
    reward = result.get("reward")
    return result["status"].lower() + ("" if reward is None else f", reward {reward:g}")


def run(pool: Pool, cases: str | None, timeout_s: float) -> list[Finding]:
    findings = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        return pool.submit(request, timeout_s).result()

    example: dict[str, Any] = {"prompt": "", "answer": "1", "params": {}}
    for number, case in _read_cases(cases) if cases else ():
        expect = case.pop("expect", {})
        example = {**example, **{k: v for k, v in case.items() if k != "completion"}}
        first, second = ask(case), ask(case)
        problem = _expected(first, expect) if expect else _judge(first)
        if not problem and first.get("reward") != second.get("reward"):
            problem = f"not deterministic: {first.get('reward')} then {second.get('reward')}"
        findings.append(Finding(f"{cases}:{number}", not problem, problem or _shown(first)))
    # With the first row's answer and params where there are cases, so that the function is reached.
    for name, completion in ADVERSARIAL.items():
        result = ask({**example, "completion": completion})
        problem = _judge(result)
        findings.append(Finding(name, not problem, problem or _shown(result)))
    return findings
