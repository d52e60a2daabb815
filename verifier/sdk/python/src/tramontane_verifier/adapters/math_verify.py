"""Math-Verify (`pip install math-verify[antlr4_13_2]`; tested with 0.9.0).

Its own timeouts use SIGALRM, which works here: the function has its process's main thread. What
they cannot stop, the worker's deadline kills. Gold first, answer second: `verify` is not symmetric.
"""
from typing import Any

from tramontane_verifier.answers import behind_thoughts
from tramontane_verifier.spec import BadInput, Spec, verifier


def make(name: str = "math_verify", version: str = "1.0.0", timeout_s: float = 10.0,
         parsing_timeout_s: int = 3, verify_timeout_s: int = 5, think_close: str = "</think>") -> Spec:
    def judge(completion: str, answer: str) -> Any:
        import math_verify

        gold = math_verify.parse(f"${answer}$", parsing_timeout=parsing_timeout_s,
                                 raise_on_error=False) if answer else []
        if not gold:
            raise BadInput("math-verify cannot read the gold answer")
        said = math_verify.parse(behind_thoughts(completion, think_close),
                                 parsing_timeout=parsing_timeout_s, raise_on_error=False)
        right = bool(said) and math_verify.verify(gold, said, timeout_seconds=verify_timeout_s,
                                                  raise_on_error=False)
        return {"reward": 1.0 if right else 0.0, "correct": right,
                "extracted": str(said[-1])[:200] if said else ""}

    return verifier(name=name, version=version, timeout_s=timeout_s)(judge)
