#!/usr/bin/env python3
"""Writes agreement.jsonl: pairs of a gold answer and an answer, with math-verify's verdict.

    PYTHON tests/golden/verifier/make_agreement.py      # PYTHON with math-verify==0.9.0

Pairs come from agreement_pairs.txt (written by hand; one kind a section, `gold ||| answer` a line)
and from the generators below (seeded). Text that holds a delimiter ($, \\(, \\[, \\boxed) or a
sentence is given to math-verify as it is; a bare formula is wrapped: the gold answer in dollar
signs, the answer in a box. The verdict is verify(parse(gold), parse(answer)).
"""
import json
import pathlib
import random
import re
import sys

import math_verify

HERE = pathlib.Path(__file__).parent
SENTENCE = re.compile(r"\b(answer|therefore|thus|total|probability)\b", re.IGNORECASE)


def hand_written():
    kind = None
    for line in (HERE / "agreement_pairs.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            kind = line[3:].strip()
        elif kind is not None and " ||| " in line:
            gold, answer = line.split(" ||| ")
            yield kind, gold.strip(), answer.strip()


def generated():
    rng = random.Random(7)
    pick = rng.randint
    for _ in range(30):
        n = pick(-99999, 9999999)
        wrong = n + rng.choice([0, 0, 1, -1, 10])
        yield "generated integers", str(n), rng.choice([f"{wrong:,}", str(wrong), f"{wrong}.0", f"+{wrong}" if wrong > 0 else str(wrong)])
    for _ in range(40):
        a, b, k = pick(1, 40), pick(2, 40), pick(1, 6)
        top = a * k + rng.choice([0, 0, 1])
        style = rng.choice(["\\frac{%d}{%d}", "\\dfrac{%d}{%d}", "%d/%d", "\\tfrac{%d}{%d}"])
        yield "generated fractions", "\\frac{%d}{%d}" % (a, b), style % (top, b * k)
    for _ in range(25):
        a, d = pick(1, 60), rng.choice([2, 4, 5, 8, 10, 20, 25, 3, 7])
        places = rng.choice([2, 4, 6, 8])
        yield "generated decimals", "%d/%d" % (a, d), ("%." + str(places) + "f") % (a / d)
    for _ in range(20):
        m, e = pick(10, 99), pick(-5, 7)
        value = m / 10 * 10.0 ** e
        text = repr(m * 10 ** (e - 1)) if e >= 1 else f"{value:.{1 - e}f}"
        yield "generated scientific", text, rng.choice(["%s \\times 10^{%d}", "%s \\cdot 10^{%d}"]) % (m / 10, e + rng.choice([0, 0, 1]))
    for _ in range(30):
        a, b = pick(2, 12), rng.choice([2, 3, 5, 6, 7])
        yield "generated roots", "%d\\sqrt{%d}" % (a, b), "\\sqrt{%d}" % (a * a * b + rng.choice([0, 0, 0, 1]))
    for _ in range(20):
        a, b = pick(1, 9), rng.choice([2, 3, 5, 7])
        yield "generated roots", "\\frac{%d}{\\sqrt{%d}}" % (a, b), "\\frac{%d\\sqrt{%d}}{%d}" % (a, b, b + rng.choice([0, 0, 1]))
    for _ in range(40):
        a, b, c, d = pick(-6, 6) or 1, pick(-6, 6), pick(-6, 6) or 2, pick(-6, 6)
        expanded = "%dx^2%+dx%+d" % (a * c, a * d + b * c + rng.choice([0, 0, 0, 1]), b * d)
        yield "generated polynomials", "(%dx%+d)(%dx%+d)" % (a, b, c, d), expanded
    for _ in range(25):
        a, b = pick(1, 9), pick(1, 9)
        yield "generated rational functions", "\\frac{x+%d}{x-%d}" % (a, b), rng.choice([
            "\\frac{%d+x}{x-%d}" % (a, b), "1+\\frac{%d}{x-%d}" % (a + b, b),
            "\\frac{x+%d}{x-%d}" % (a + 1, b), "\\frac{2x+%d}{2x-%d}" % (2 * a, 2 * b)])
    for _ in range(30):
        items = rng.sample(range(-9, 20), pick(2, 5))
        other = items[:]
        if rng.random() < 0.6:
            rng.shuffle(other)
        if rng.random() < 0.3:
            other[0] += 1
        wrap = rng.choice(["%s", "\\{%s\\}", "(%s)"])
        join = lambda values: ", ".join(map(str, values))
        yield "generated lists", wrap % join(items), rng.choice([wrap, "\\{%s\\}", "%s"]) % join(other)
    for _ in range(30):
        a = pick(-9, 5)
        b = a + pick(1, 9)
        left, right = rng.choice("(["), rng.choice(")]")
        other = (rng.choice([left, left, "("]), a, b + rng.choice([0, 0, 0, 1]), rng.choice([right, right, "]"]))
        yield "generated intervals", "%s%d, %d%s" % (left, a, b, right), "\\left%s%d,%d\\right%s" % other
    for _ in range(20):
        cells = [pick(-5, 9) for _ in range(4)]
        other = cells[:]
        if rng.random() < 0.4:
            other[pick(0, 3)] += 1
        body = lambda c: "%d & %d \\\\ %d & %d" % tuple(c)
        yield "generated matrices", "\\begin{pmatrix} %s \\end{pmatrix}" % body(cells), "\\begin{bmatrix} %s \\end{bmatrix}" % body(other)
    for _ in range(20):
        a, b, k = pick(1, 9), pick(1, 9), pick(2, 4)
        c = pick(1, 20)
        yield "generated equations", "%dx + %dy = %d" % (a, b, c), rng.choice([
            "%dx + %dy = %d" % (a * k, b * k, c * k), "%dx + %dy - %d = 0" % (a, b, c),
            "%dy = %d - %dx" % (b, c, a), "%dx + %dy = %d" % (a, b, c + 1)])


def wrapped(text, box):
    plain = text.replace("\\$", "")  # an amount of money
    if any(mark in plain for mark in ("$", "\\(", "\\[", "\\boxed")) or SENTENCE.search(text):
        return text
    return "\\boxed{%s}" % text if box else "$%s$" % text


def main():
    rows, seen = [], set()
    for kind, gold, answer in [*hand_written(), *generated()]:
        if (gold, answer) in seen:
            continue
        seen.add((gold, answer))
        verdict = math_verify.verify(math_verify.parse(wrapped(gold, False)),
                                     math_verify.parse(wrapped(answer, True)))
        rows.append({"kind": kind, "gold": gold, "answer": answer, "math_verify": bool(verdict)})
    with open(HERE / "agreement.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(rows)} pairs, {sum(r['math_verify'] for r in rows)} the same to math-verify", file=sys.stderr)


if __name__ == "__main__":
    main()
