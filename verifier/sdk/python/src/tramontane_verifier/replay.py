"""Scores a run's stored rollouts again, with the function as it is now: what would have been
different? Nothing in the run is changed."""
import collections
import hashlib
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Iterator

from tramontane_verifier.pool import Job, Overloaded, Pool
from tramontane_verifier.spec import Spec

_SAME = 1e-6
_LARGEST_SHOWN = 10


def read_rollouts(run: str, verifier: str = "", kind: str = "train") -> Iterator[dict[str, Any]]:
    """Lines of RUN/rollouts/step_N/<kind>.jsonl in the order of steps; of one verifier if named."""
    steps = [(int(path.name.removeprefix("step_")), path) for path in Path(run).glob("rollouts/step_*")
             if path.name.removeprefix("step_").isdigit()]
    if not steps:
        raise FileNotFoundError(f"{run}: has no rollouts; is it a run directory?")
    for _, folder in sorted(steps):
        file = folder / f"{kind}.jsonl"
        if not file.is_file():
            continue
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    rollout = json.loads(line)
                except ValueError:
                    raise ValueError(f"{file}:{number}: not JSON") from None
                if not verifier or rollout["verdict"]["verifier"] == verifier:
                    yield rollout


def request_of(rollout: dict[str, Any]) -> dict[str, Any]:
    """What the run asked, id and seed included (services/verifier/verify_request.cc)."""
    request_id = f"{rollout['gid']}/{rollout['sample_index']}/{_hash(rollout['text'])}"
    return {
        "request_id": request_id,
        "prompt": rollout["prompt"],
        "completion": rollout["text"],
        "answer": rollout["answer"],
        "params": rollout.get("params") or {},
        "messages": rollout.get("messages") or [],
        "completion_tokens": len(rollout.get("tokens") or ()),
        "finish_reason": rollout["finish_reason"],
        "group_id": rollout["gid"],
        "policy_version": rollout.get("version_min", 0),
        "seed": int(_hash(request_id), 16),
    }


def group_request_of(rollouts: list[dict[str, Any]]) -> dict[str, Any]:
    samples = [request_of(rollout) for rollout in rollouts]
    ids = "".join(sample["request_id"] + "\n" for sample in samples)
    request_id = f"{rollouts[0]['gid']}/group/{_hash(ids)}"
    return {**samples[0], "request_id": request_id, "seed": int(_hash(request_id), 16),
            "policy_version": min(sample["policy_version"] for sample in samples),
            "group": [{key: sample[key] for key in ("completion", "finish_reason", "completion_tokens")}
                      for sample in samples]}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Report:
    """What changed, sample by sample. Old: the run's verdicts. New: this verifier's."""

    def __init__(self) -> None:
        self.samples = self.same = self.differing = self.unscored = self.without_params = 0
        self._old: list[float] = []
        self._new: list[float] = []
        self._correct: collections.Counter[tuple[bool, bool]] = collections.Counter()
        self._largest: list[dict[str, Any]] = []

    def add(self, rollout: dict[str, Any], result: dict[str, Any]) -> None:
        self.samples += 1
        self.without_params += "params" not in rollout
        old, new = rollout["verdict"]["score"], result.get("reward")
        if old is None or new is None:
            self.unscored += 1
            if old is None and new is None:
                return
        else:
            was, now = bool(rollout["verdict"]["correct"]), bool(result["correct"])
            self._old.append(old)
            self._new.append(new)
            self._correct[(was, now)] += 1
            if abs(new - old) <= _SAME and was == now:
                self.same += 1
                return
            self.differing += 1
        self._largest.append({
            "step": rollout["step"], "gid": rollout["gid"], "sample_index": rollout["sample_index"],
            "old": old, "new": new, "text": rollout["text"][-200:], "answer": rollout["answer"],
            "feedback": result.get("feedback", "")})

    def document(self) -> dict[str, Any]:
        scored = len(self._new)

        def size(item):
            if item["old"] is None or item["new"] is None:
                return float("inf")
            return abs(item["new"] - item["old"])

        return {
            "samples": self.samples, "scored_by_both": scored, "same": self.same,
            "differing": self.differing, "unscored": self.unscored,
            "without_params": self.without_params,
            "mean_old": sum(self._old) / scored if scored else None,
            "mean_new": sum(self._new) / scored if scored else None,
            "correct": {"both": self._correct[(True, True)], "neither": self._correct[(False, False)],
                        "only_old": self._correct[(True, False)],
                        "only_new": self._correct[(False, True)]},
            "largest": sorted(self._largest, key=size, reverse=True)[:_LARGEST_SHOWN],
        }


def _submit(pool: Pool, request: dict[str, Any], waiting: collections.deque) -> Job:
    while True:
        try:
            return pool.submit(request)
        except Overloaded:
            waiting[0][0].result()  # the oldest of ours is done: there is room


def replay(spec: Spec, pool: Pool, run: str, verifier: str = "", kind: str = "train",
           limit: int = 0) -> dict[str, Any]:
    """The report as a document; see Report."""
    report = Report()
    waiting: collections.deque[tuple[Future, list[dict[str, Any]]]] = collections.deque()

    def settle() -> None:
        future, rollouts = waiting.popleft()
        result = future.result()
        each = result.get("group") or [result] * len(rollouts)
        for rollout, one in zip(rollouts, each):
            report.add(rollout, one)

    def ask(rollouts: list[dict[str, Any]]) -> None:
        request = group_request_of(rollouts) if spec.group else request_of(rollouts[0])
        waiting.append((_submit(pool, request, waiting).future, rollouts))
        while len(waiting) >= 4 * pool.workers:
            settle()

    group: list[dict[str, Any]] = []
    for count, rollout in enumerate(read_rollouts(run, verifier, kind)):
        if limit and count >= limit:
            break
        if not spec.group:
            ask([rollout])
        elif group and (group[0]["step"], group[0]["gid"]) != (rollout["step"], rollout["gid"]):
            ask(group)
            group = [rollout]
        else:
            group.append(rollout)
    if group:
        ask(group)
    while waiting:
        settle()
    return report.document()


def render(document: dict[str, Any]) -> str:
    correct = document["correct"]
    lines = [
        f"{document['samples']} samples, {document['same']} the same, {document['differing']} differ, "
        f"{document['unscored']} not scored by both",
        f"correct: {correct['both']} by both, {correct['neither']} by neither, "
        f"{correct['only_old']} only before, {correct['only_new']} only now",
    ]
    if document["mean_old"] is not None:
        lines.insert(1, f"mean reward {document['mean_old']:.4f} before, {document['mean_new']:.4f} now")
    if document["without_params"]:
        lines.append(f"{document['without_params']} samples were stored without their row's params")
    for item in document["largest"]:
        lines.append(f"  step {item['step']} {item['gid'][:8]}/{item['sample_index']}: "
                     f"{item['old']} -> {item['new']}  {item['text'][-60:]!r} for {item['answer']!r}")
    return "\n".join(lines)
