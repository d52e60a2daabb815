"""reasoning-gym's own scorers (`pip install reasoning-gym`; tested with 0.1.25).

Rows carry the data set's entry in `params.entry` (question, answer, metadata.source_dataset).
`score_answer` gives partial credit to text that merely contains the answer, and a policy learns to
collect it: the final answer is taken out first, and only full marks count, unless `partial`.
"""
import functools
from typing import Any

from tramontane_verifier.answers import behind_thoughts, last_box
from tramontane_verifier.spec import BadInput, Spec, verifier


@functools.cache
def _scorer(source_dataset: str):
    """Making one reads the task's word lists and the like: once a process is enough."""
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(source_dataset)


def mark(answer: str, entry: dict[str, Any]) -> tuple[float, str]:
    """The task's own marks for an answer, 0 to 1, and a word about them."""
    if entry.get("answer") is None:
        raise BadInput("the entry has no gold answer")
    try:
        marks = float(_scorer(entry["metadata"]["source_dataset"])(answer=answer, entry=entry))
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError) as e:
        # Some tasks raise on an answer of the wrong kind, e.g. letters for numbers.
        return 0.0, f"{type(e).__name__} while scoring"
    return marks, f"score_answer gave {marks:g}"


def make(name: str = "reasoning_gym", version: str = "1.0.0", timeout_s: float = 10.0,
         boxed: bool = True, partial: bool = False) -> Spec:
    def judge(completion: str, entry: dict[str, Any]) -> Any:
        text = behind_thoughts(completion)
        answer = last_box(text) if boxed else text
        if answer is None:
            return {"reward": 0.0, "feedback": "no boxed answer"}
        marks, feedback = mark(answer, entry)
        right = marks == 1.0
        return {"reward": marks if partial else float(right), "correct": right, "extracted": answer,
                "feedback": feedback, "metrics": {"score_answer": marks}}

    return verifier(name=name, version=version, timeout_s=timeout_s)(judge)
