"""Programs judged by input and output, whatever runs them."""
from collections.abc import Callable
from typing import Any

from tramontane_verifier.answers import behind_thoughts, last_code
from tramontane_verifier.spec import BadInput

ALIASES = {"python": ("python", "py", "python3"), "cpp": ("cpp", "c++", "cc"),
           "javascript": ("javascript", "js")}

# Runs one program on one input: (ended well, standard output, what went wrong).
Run = Callable[[str, str], tuple[bool, str, str]]


def same_output(got: str, expected: str) -> bool:
    """Line by line, without trailing blanks: what contest judges do."""
    def lines(text: str) -> list[str]:
        return [line.rstrip() for line in text.rstrip().splitlines()]

    return lines(got) == lines(expected)


def judge(completion: str, tests: list[dict[str, str]], language: str, fraction: bool,
          run: Run) -> dict[str, Any]:
    """`tests`: [{"input", "output"}, …]. All must pass; with `fraction` the share that does."""
    if not tests or not all(isinstance(t, dict) and "output" in t for t in tests):
        raise BadInput("tests must be a list of {input, output}, and not empty")
    code = last_code(behind_thoughts(completion), ALIASES.get(language, (language,)))
    if code is None:
        return {"reward": 0.0, "feedback": "no code block"}
    passed, trouble = 0, ""
    for number, test in enumerate(tests):
        ended, output, why = run(code, test.get("input", ""))
        if ended and same_output(output, test["output"]):
            passed += 1
            continue
        trouble = trouble or f"test {number}: {why or 'wrong output'}"
        if not fraction:
            break
    right = passed == len(tests)
    return {"reward": passed / len(tests) if fraction else float(right), "correct": right,
            "feedback": trouble, "metrics": {"tests_passed": passed, "tests": len(tests)}}
