"""`tramontane-verifier init`: a verifier to start from, and its first cases."""
import json
import re
from pathlib import Path

_SOURCE = '''\
from tramontane_verifier import verifier


@verifier(name="{name}", version="0.1.0")
def {function}(completion, answer):
    said = completion.rsplit("</think>", 1)[-1].strip()
    if not answer:
        return None  # without a gold answer nothing can be said: not scored, not 0
    return 1.0 if said == answer else 0.0
'''

_CASES = (
    {"completion": "<think>2+3</think>5", "answer": "5", "expect": {"reward": 1.0, "correct": True}},
    {"completion": "<think>2+3</think>6", "answer": "5", "expect": {"reward": 0.0}},
    {"completion": "", "answer": "5", "expect": {"reward": 0.0}},
    {"completion": "5", "answer": "", "expect": {"status": "skipped"}},
)


def cases_path(target: str) -> Path:
    """Where a verifier's cases lie when nobody says otherwise: NAME_cases.jsonl beside NAME.py."""
    file = Path(target.partition(":")[0])
    return file.with_name(file.stem + "_cases.jsonl")


def init(name: str, folder: str) -> list[Path]:
    """Writes both files; never over something that is there."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(f"{name!r}: a name has letters, digits, - and _, and begins with a letter")
    function = name.replace("-", "_")
    file = Path(folder) / f"{function}.py"
    cases = cases_path(str(file))
    for path in (file, cases):
        if path.exists():
            raise FileExistsError(f"{path} is there already")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_SOURCE.format(name=name, function=function), encoding="utf-8")
    cases.write_text("".join(json.dumps(case) + "\n" for case in _CASES), encoding="utf-8")
    return [file, cases]
