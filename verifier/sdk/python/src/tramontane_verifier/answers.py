"""Where the answer is in a completion."""
import re

_FENCE = re.compile(r"```(?P<language>[\w+#-]*)[ \t]*\n(?P<code>.*?)```", re.DOTALL)


def behind_thoughts(completion: str, close: str = "</think>") -> str:
    return completion.rsplit(close, 1)[-1].strip()


def last_box(text: str) -> str | None:
    """Content of the last \\boxed{…}; None when there is none or it never closes."""
    _, box, rest = text.rpartition("\\boxed{")
    if not box:
        return None
    depth = 1
    for i, c in enumerate(rest):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[:i].strip()
    return None


def last_code(text: str, languages: tuple[str, ...] = ()) -> str | None:
    """The last fenced block, of one of the languages or of none named; None when there is none."""
    blocks = [m for m in _FENCE.finditer(text)
              if not languages or m["language"].lower() in ("", *languages)]
    return blocks[-1]["code"] if blocks else None
