#!/usr/bin/env python3
"""Checks that each rpc, field, enum and value of proto/tramontane has a // comment, on its line or right
above it, and each message too unless its name says what it is (…Request, …Reply). Prints what is
bare; exit status 1 if anything is."""
import pathlib
import re
import sys

NAMELESS = re.compile(r"(syntax|package|import|option|reserved|extensions|service|oneof)\b|\};?$")
BLOCK = re.compile(r"(?:message|enum)\s+(\w+)\s*\{")
RPC = re.compile(r"rpc\s+(\w+)\s*\(")
FIELD_OR_VALUE = re.compile(r"(?:.*[\w>]\s+)?(\w+)\s*=\s*-?\w+")
SELF_EXPLAINED = re.compile(r"(Request|Reply|Result|Description|State|List|Spec)$")


def named(statement):
    """The name that wants a comment, or None."""
    if NAMELESS.match(statement):
        return None
    block = BLOCK.match(statement)
    if block:
        return None if SELF_EXPLAINED.search(block[1]) else block[1]
    member = RPC.match(statement) or FIELD_OR_VALUE.match(statement)
    return member[1] if member else f"'{statement}', which this check cannot read,"


def bare(text):
    """(line number, name) of what has no comment."""
    statement, first, documented, comment_above = "", 0, False, False
    for number, line in enumerate(text.splitlines(), 1):
        code, _, comment = line.partition("//")
        code = code.strip()
        if code and not statement:
            first, documented = number, comment_above
        documented |= bool(comment.strip())
        comment_above = not code and bool(comment.strip())
        if not code:
            continue
        statement = f"{statement} {code}".strip()
        if not re.search(r"[;{}]$", code):
            continue  # goes on in the next line
        name = named(statement)
        if name and not documented:
            yield first, name
        statement = ""


def main(root):
    files = sorted((root / "proto/tramontane").glob("**/*.proto"))
    if not files:
        print(f"{root}/proto/tramontane holds no .proto files")
    found = 0 if files else 1
    for file in files:
        for line, name in bare(file.read_text(encoding="utf-8")):
            print(f"{file.relative_to(root)}:{line}: {name} has no comment")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
