"""reasoning-gym tasks scored by their own score_answer, behind a format gate.

score_answer gives partial credit to text that merely contains the answer, and for some tasks to
answers that are near. A policy learns to collect such credit. So the final answer is taken out
first, and only full marks (1.0) count as correct.
"""
from tramontane_verifier import verifier
from tramontane_verifier.adapters import reasoning_gym
from tramontane_verifier.answers import last_box

FORMAT, ACCURACY = 0.1, 0.9
_OPEN, _CLOSE = "<think>", "</think>"


def final_answer(completion):
    """Content of the last box behind one pair of think tags; None when the format is broken."""
    if not completion.startswith(_OPEN):
        return None
    if completion.count(_OPEN) != 1 or completion.count(_CLOSE) != 1:
        return None
    return last_box(completion.split(_CLOSE)[1])


@verifier(name="reasoning_gym", version="1.1.0", timeout_s=10, components=("format", "accuracy"))
def score(completion, entry):
    answer = final_answer(completion)
    if answer is None:
        return {"reward": 0.0, "feedback": "format"}
    marks, feedback = reasoning_gym.mark(answer, entry)
    right = marks == 1.0
    return {
        "components": {"format": FORMAT, "accuracy": ACCURACY if right else 0.0},
        "correct": right,
        "extracted": answer,
        "feedback": feedback,
        "metrics": {"score_answer": marks},
    }
