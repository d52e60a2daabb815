"""What every verifier has to survive (`validate`), and the author's own cases (`test`)."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from tramontane_verifier.pool import Pool
from tramontane_verifier.spec import Spec

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

# Rows that data sets hold by mistake. To say "bad input" is right; so is a score.
BAD_ROWS: dict[str, dict[str, Any]] = {
    "row without answer": {"answer": ""},
    "row without params": {"params": {}},
    "row with a huge answer": {"answer": "9" * _HUGE},
}


@dataclass
class Finding:
    case: str
    passed: bool
    detail: str


def read_cases(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
            except ValueError as e:
                raise ValueError(f"{path}:{number}: not JSON: {e}") from None
            if not isinstance(case, dict):
                raise ValueError(f"{path}:{number}: not a JSON object")
            yield number, case


def _expected(result: dict[str, Any], expect: dict[str, Any]) -> str:
    """Empty when the result is as expected."""
    for key, value in expect.items():
        got = result.get(key)
        if key == "status":
            value = str(value).upper()
        numbers = (int, float)
        if isinstance(value, numbers) and isinstance(got, numbers) and not isinstance(value, bool):
            same = abs(value - got) <= 1e-9
        else:
            same = value == got
        if not same:
            return f"{key}: expected {value!r}, got {got!r} ({result.get('feedback', '')})"
    return ""


def _judge(result: dict[str, Any]) -> str:
    status = result["status"]
    if status in ("SCORED", "POLICY_FAILURE", "BAD_INPUT", "SKIPPED"):
        return ""
    return f"{status}: {result.get('feedback', '')}"


def _shown(result: dict[str, Any]) -> str:
    if "group" in result:
        return "; ".join(_shown(one) for one in result["group"])
    reward = result.get("reward")
    return result["status"].lower() + ("" if reward is None else f", reward {reward:g}")


def _rewards(result: dict[str, Any]) -> list[float | None]:
    return [one.get("reward") for one in result.get("group", [result])]


class Examiner:
    """Puts requests to a pool; every question twice unless the verifier says it may differ."""

    def __init__(self, spec: Spec, pool: Pool, timeout_s: float):
        self._spec = spec
        self._pool = pool
        self._timeout_s = timeout_s

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._pool.submit(request, self._timeout_s).future.result()

    def _examine(self, name: str, request: dict[str, Any], expect: dict[str, Any]) -> Finding:
        first = self._ask(request)
        problem = _expected(first, expect) if expect else _judge(first)
        if not problem and self._spec.determinism != "none":
            second = self._ask(request)
            if _rewards(first) != _rewards(second):
                problem = f"not deterministic: {_rewards(first)} then {_rewards(second)}"
        return Finding(name, not problem, problem or _shown(first))

    def run_cases(self, path: str | Path) -> list[Finding]:
        findings = []
        for number, case in read_cases(path):
            expect = case.pop("expect", {})
            findings.append(self._examine(f"{path}:{number}", case, expect))
        if not findings:
            findings.append(Finding(str(path), False, "no cases"))
        return findings

    def run_adversarial(self, example: dict[str, Any]) -> list[Finding]:
        """`example`: a row as the verifier expects it, so that its function is reached."""
        base = {"prompt": "", "answer": "1", "params": {}, **example}
        findings = []
        for name, completion in ADVERSARIAL.items():
            request = {**base, "completion": completion}
            if self._spec.group:
                request = {**base, "group": [{"completion": completion}, {"completion": "1"}]}
            findings.append(self._examine(name, request, {}))
        for name, changes in BAD_ROWS.items():
            findings.append(self._examine(name, {"completion": "1", **base, **changes}, {}))
        return findings
