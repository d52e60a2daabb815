"""`validate --data`: every row of a data set put before the verifier, with its own gold answer (which
must be right), with nothing, and with the next row's answer (which mostly must not)."""
import collections
import itertools
import json
import string
from dataclasses import dataclass
from typing import Any, Iterable, Iterator

from tramontane_verifier.pool import Pool
from tramontane_verifier.selftest import Finding
from tramontane_verifier.spec import Spec

# How a completion says the gold answer, unless `--gold` tells. The first rows decide which it is.
SHAPES = ("$answer", "<think></think>$answer", "<think></think>\\boxed{$answer}", "\\boxed{$answer}")
_ROWS_TO_CHOOSE_BY = 8
_SHOWN = 5
_PROMPTS = ("prompt", "question", "input", "messages")
_ANSWERS = ("answer", "solution", "ground_truth", "label")


@dataclass
class Row:
    where: str  # file:line
    request: dict[str, Any]
    columns: dict[str, str]  # what a template may name

    def completion(self, template: str) -> str:
        return string.Template(template).safe_substitute(self.columns)


def _first(row: dict[str, Any], keys: Iterable[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), "")


def _row(where: str, row: dict[str, Any]) -> Row:
    """Our own rows and those of verl, TRL, OpenRLHF and verifiers, as the trainer reads them."""
    prompt = _first(row, _PROMPTS)
    messages = prompt if isinstance(prompt, list) else []
    model = row.get("reward_model")
    answer = model.get("ground_truth", "") if isinstance(model, dict) else _first(row, _ANSWERS)
    answer = answer if isinstance(answer, str) else json.dumps(answer)
    own = isinstance(row.get("params"), dict)
    used = {*_PROMPTS, *_ANSWERS, "id", "reward_model"}
    params = row["params"] if own else {k: v for k, v in row.items() if k not in used}
    text = prompt if isinstance(prompt, str) else "\n".join(str(m.get("content", "")) for m in messages)
    columns = {k: v if isinstance(v, str) else json.dumps(v) for k, v in {**row, **params}.items()}
    return Row(where, {"request_id": where, "prompt": text, "messages": messages, "answer": answer,
                       "params": params, "finish_reason": "stop"}, {**columns, "answer": answer})


def read_rows(path: str, limit: int = 0) -> Iterator[Row]:
    with open(path, encoding="utf-8") as lines:
        numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
        for number, line in itertools.islice(numbered, limit or None):
            try:
                row = json.loads(line)
            except ValueError as e:
                raise ValueError(f"{path}:{number}: not JSON: {e}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: not a JSON object")
            yield _row(f"{path}:{number}", row)


class DatasetCheck:
    """One thread. As many questions are open as the pool has workers, twice over."""

    def __init__(self, spec: Spec, pool: Pool, timeout_s: float):
        self._spec, self._pool, self._timeout_s = spec, pool, timeout_s

    def _ask_all(self, questions: Iterable[tuple[Row, str]]) -> Iterator[tuple[Row, dict[str, Any]]]:
        """The results in the order of the questions: of a group scorer that of the first of two, the
        other being empty."""
        waiting: collections.deque = collections.deque()

        def settle():
            row, job = waiting.popleft()
            result = job.future.result()
            return row, (result["group"][0] if result.get("group") else result)

        for row, completion in questions:
            request = {**row.request, "completion": completion}
            if self._spec.group:
                request |= {"completion": "", "group": [{"completion": completion}, {"completion": ""}]}
            waiting.append((row, self._pool.submit(request, self._timeout_s)))
            if len(waiting) >= 2 * self._pool.workers:
                yield settle()
        while waiting:
            yield settle()

    def choose_shape(self, rows: list[Row]) -> str:
        def right(shape):
            asked = self._ask_all((row, row.completion(shape)) for row in rows[:_ROWS_TO_CHOOSE_BY])
            return sum(bool(result.get("correct")) for _, result in asked)

        return max(SHAPES, key=right)

    def run(self, path: str, gold: str = "", limit: int = 0) -> list[Finding]:
        rows = list(read_rows(path, limit))
        if not rows:
            return [Finding(path, False, "no rows")]
        shape = gold or self.choose_shape(rows)
        wrong, failed = [], []
        for row, result in self._ask_all((row, row.completion(shape)) for row in rows):
            if result["status"] not in ("SCORED", "POLICY_FAILURE"):
                failed.append((row, result))
            elif not result.get("correct"):
                wrong.append((row, result))
        right = len(rows) - len(wrong) - len(failed)
        return [
            Finding(f"{path}: gold answers", not wrong, f"{right} of {len(rows)} right, said as {shape}"
                    + _examples(wrong)),
            Finding(f"{path}: rows that can be judged", not failed,
                    f"{len(rows) - len(failed)} of {len(rows)}" + _examples(failed)),
            self._others(path, rows, shape),
            self._nothing(path, rows),
        ]

    def _nothing(self, path: str, rows: list[Row]) -> Finding:
        asked = self._ask_all((row, "") for row in rows)
        right = [(row, result) for row, result in asked if result.get("correct")]
        return Finding(f"{path}: empty completions", not right,
                       f"{len(right)} of {len(rows)} right" + _examples(right))

    def _others(self, path: str, rows: list[Row], shape: str) -> Finding:
        """A verifier that takes any answer finds every gold answer right, too."""
        pairs = [(row, other.completion(shape)) for row, other in zip(rows, rows[1:] + rows[:1])
                 if row.request["answer"] != other.request["answer"]]
        right = [(row, result) for row, result in self._ask_all(pairs) if result.get("correct")]
        return Finding(f"{path}: other rows' answers", 2 * len(right) <= len(pairs),
                       f"{len(right)} of {len(pairs)} right" + _examples(right))


def _examples(found: list[tuple[Row, dict[str, Any]]]) -> str:
    return "".join(f"\n       {row.where}: {result['status'].lower()}, reward {result.get('reward')}"
                   f" for {row.request['answer']!r:.60}: {result.get('feedback', '')!s:.200}"
                   for row, result in found[:_SHOWN])
