"""A group scorer: each sample's share of the longest."""
from tramontane_verifier import verifier


@verifier(name="grouped", version="1.0.0", needs=("network",), reward_range=(0, 1))
def grouped(completions, answer):
    if "nan" in completions:
        return [float("nan")] * len(completions)
    if "short" in completions:
        return [1.0]
    longest = max(len(c) for c in completions)
    return [None if c == "none" else len(c) / longest for c in completions]
