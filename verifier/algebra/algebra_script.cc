#include "verifier/algebra/algebra_script.h"

namespace tramontane {

// Trees are built by constructors; nothing is parsed as an expression. Integers are only multiplied
// out while they are small, so a power tower is refused at once; all else that goes on too long is
// the parent's to kill. Symbols are real, as in probing; those under a factorial or a bound of a sum
// are whole numbers that are not negative.
const char kAlgebraScript[] = R"python(
import ctypes, json, os, resource, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.umask(0o777)
memory = int(sys.argv[1])
for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0),
                   (resource.RLIMIT_NOFILE, 64)):
    resource.setrlimit(what, (most, most))
import sympy as sp

MOST_BITS = 1 << 17
ONE = {"sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc,
       "asin": sp.asin, "acos": sp.acos, "atan": sp.atan, "acot": sp.acot, "asec": sp.asec, "acsc": sp.acsc,
       "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "asinh": sp.asinh, "acosh": sp.acosh,
       "atanh": sp.atanh, "abs": sp.Abs, "floor": sp.floor, "ceil": sp.ceiling}
MANY = {"max": sp.Max, "min": sp.Min}
TWO = {"binomial": sp.binomial, "mod": sp.Mod, "gcd": sp.gcd, "lcm": sp.lcm}
WHOLE = {"factorial", "binomial", "mod", "gcd", "lcm"}


class Unknown(Exception):
    pass


def small(x):
    if x.is_Integer and abs(int(x)) > 5000:
        raise Unknown
    return x


def power(base, exponent):
    if base.is_Rational and exponent.is_Integer:
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if bits * abs(int(exponent)) > MOST_BITS and abs(base) != 1:
            raise Unknown
    elif base.is_number and exponent.is_Integer and abs(int(exponent)) > 1000:
        raise Unknown
    return base ** exponent


def named(tree):
    """The index i of a sum is a symbol, not the imaginary unit."""
    if not isinstance(tree, list):
        return tree
    if tree[:2] in (["f", "sum"], ["f", "prod"]) and tree[3] == ["c", "i"]:
        tree = tree[:2] + renamed(tree[2:4]) + tree[4:]
    return [named(part) for part in tree]


def renamed(tree):
    if not isinstance(tree, list):
        return tree
    return ["s", "i"] if tree == ["c", "i"] else [renamed(part) for part in tree]


def symbols(tree, whole, inside=False):
    if tree[0] == "s":
        if inside:
            whole.add(tree[1])
    elif tree[0] == "f" and tree[1] in ("sum", "prod"):
        symbols(tree[2], whole, inside)
        for part in tree[3:]:
            symbols(part, whole, True)
    else:
        inside = inside or (tree[0] == "f" and tree[1] in WHOLE)
        for part in tree[1:]:
            if isinstance(part, list):
                symbols(part, whole, inside)


def build(tree, whole):
    kind, *rest = tree
    if kind == "n":
        return sp.Rational(rest[0])
    if kind == "s":
        return (sp.Symbol(rest[0], integer=True, nonnegative=True) if rest[0] in whole
                else sp.Symbol(rest[0], real=True))
    if kind == "c":
        return {"pi": sp.pi, "e": sp.E, "i": sp.I, "infinity": sp.oo}[rest[0]]
    if kind == "f":
        return call(rest[0], [build(part, whole) for part in rest[1:]])
    if kind == "m":
        cells = [build(part, whole) for part in rest[1:]]
        return sp.Matrix(len(cells) // rest[0], rest[0], cells)
    args = [build(part, whole) for part in rest]
    if kind == "+":
        return sp.Add(*args)
    if kind == "*":
        return sp.Mul(*args)
    if kind == "^":
        return power(*args)
    if kind == "%":
        return args[0] / 100
    raise Unknown


def call(name, args):
    if name in ONE and len(args) == 1:
        return ONE[name](args[0])
    if name in MANY and args:
        return MANY[name](*args)
    if name in TWO and len(args) == 2:
        return TWO[name](*map(small, args))
    if name == "factorial" and len(args) == 1:
        return sp.factorial(small(args[0]))
    if name == "log" and len(args) == 2:
        return sp.log(args[0]) / sp.log(args[1])
    if name == "det" and len(args) == 1:
        return args[0].det()
    if name in ("sum", "prod") and len(args) == 4:
        term, index, first, last = args
        if not index.is_Symbol:
            raise Unknown
        return (sp.summation if name == "sum" else sp.product)(term, (index, first, last))
    if name == "int" and len(args) in (2, 4):
        return sp.integrate(args[0], args[1] if len(args) == 2 else tuple(args[1:]))
    if name == "lim" and len(args) == 3:
        return sp.limit(*args)
    if name == "prime":
        raise Unknown
    return sp.Function(name)(*args)


def same(a, b):
    a, b, whole = named(a), named(b), set()
    symbols(a, whole)
    symbols(b, whole)
    a, b = build(a, whole), build(b, whole)
    if a == b:
        return True
    difference = sp.simplify(a - b)
    if difference.has(sp.nan, sp.zoo):
        return None
    if difference.is_zero is not None:
        return bool(difference.is_zero)
    return a.equals(b)


channel = os.fdopen(3, "r", encoding="utf-8")
os.write(3, b"ready\n")
for line in channel:
    try:
        opinion = same(*json.loads(line))
    except Exception:
        opinion = None
    os.write(3, (json.dumps(opinion if opinion in (True, False) else None) + "\n").encode())
)python";

}  // namespace tramontane
