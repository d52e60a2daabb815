"""The decorator, and what it knows of a verifier."""
import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from tramontane_verifier import package, styles
from tramontane_verifier.styles import ARGUMENTS, BadInput  # noqa: F401 (part of the interface)

_PERFECT = 1.0  # what most functions without a stated range give to a right answer


@dataclass(frozen=True)
class Spec:
    """One verifier: a function and how to run it."""

    function: Callable[..., Any]
    name: str
    version: str
    reward_range: tuple[float, float] | None  # None: any finite number
    timeout_s: float
    determinism: str
    components: tuple[str, ...]
    style: str = "tramontane"
    group: bool = False
    needs: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    @property
    def perfect(self) -> float:
        """The reward that counts as correct when the function says nothing of it."""
        return self.reward_range[1] if self.reward_range else _PERFECT

    def call(self, request: dict[str, Any]) -> Any:
        """What the function says of a request's sample; for a group request a list of that."""
        if request.get("group") and not self.group:
            raise BadInput("this verifier judges samples one by one, not groups")
        values = styles.CALLS[self.style](self.function, request, self.group)
        return values if request.get("group") else values[0]


def _check_range(reward_range) -> tuple[float, float] | None:
    if reward_range is None:
        return None
    low, high = (float(bound) for bound in reward_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"reward_range must be two finite numbers in order, not {reward_range}")
    return low, high


def verifier(
    *,
    name: str,
    version: str,
    reward_range: tuple[float, float] | None = (0.0, 1.0),
    timeout_s: float = 10.0,
    determinism: str = "pure",
    components: tuple[str, ...] = (),
    style: str = "auto",
    group: bool | None = None,
    needs: tuple[str, ...] = (),
    includes: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Spec]:
    """Makes a function a verifier.

    timeout_s     bounds one execution when the caller says nothing
    reward_range  rewards outside it are errors; None: any finite number
    style         auto, tramontane, trl, verl or verifiers: how the function is called (styles.py)
    group         True: the function judges all samples of a group at once, and returns a list
    needs         what it needs beyond a processor and memory, e.g. ("network",)
    includes      files beside this one that belong to it (glob patterns): part of digest and package
    """
    bounds = _check_range(reward_range)
    if not timeout_s > 0:
        raise ValueError("timeout_s must be positive")
    if determinism not in ("pure", "seeded", "none"):
        raise ValueError("determinism is 'pure', 'seeded' or 'none'")
    if not name or not version:
        raise ValueError("a verifier needs a name and a version")
    if style not in ("auto", *styles.CALLS):
        raise ValueError(f"style is auto or one of {', '.join(styles.CALLS)}")

    def wrap(function: Callable[..., Any]) -> Spec:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(f"{function.__name__}: arguments are given by name")
        way = styles.detect(function) if style == "auto" else style
        names = set(inspect.signature(function).parameters)
        # A TRL function takes lists in any case; the others show by their plural names.
        whole = group if group is not None else way != "trl" and "completions" in names
        if whole and way == "verl":
            raise ValueError("verl functions judge samples one by one")
        return Spec(function, name, version, bounds, float(timeout_s), determinism,
                    tuple(components), way, whole, tuple(needs), tuple(includes))

    return wrap


def rubric(*, name: str, version: str, funcs, weights=None, **settings) -> Spec:
    """Several verifiers-style functions as one verifier: their weighted sum, each a component; those
    of weight 0 are metrics. `funcs` may be a verifiers `Rubric`, which brings its own weights."""
    if not isinstance(funcs, (list, tuple)):
        weights = getattr(funcs, "weights", None) or getattr(funcs, "reward_weights", None)
        funcs = getattr(funcs, "funcs", None) or getattr(funcs, "reward_funcs", None) or [funcs]
    weights = [1.0] * len(funcs) if weights is None else [float(w) for w in weights]
    if len(funcs) != len(weights) or not funcs:
        raise ValueError("a rubric needs functions, and as many weights")
    one = [verifier(name=f.__name__, version=version, style="verifiers", group=False)(f) for f in funcs]

    def judge(**request):
        components, metrics = {}, {}
        for spec, weight in zip(one, weights):
            value = spec.call(request)
            if value is None:
                return None
            (components if weight else metrics)[spec.name] = float(value) * (weight or 1.0)
        return {"components": components, "metrics": metrics}

    judge.__name__ = name
    settings.setdefault("components", tuple(s.name for s, w in zip(one, weights) if w))
    settings.setdefault("reward_range", None)
    return verifier(name=name, version=version, style="tramontane", **settings)(judge)


def _import(where: str):
    """A Python file, or the dotted name of an installed module."""
    file = Path(where)
    if not file.suffix == ".py":
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as e:
            if e.name and where.startswith(e.name):
                raise FileNotFoundError(f"{where}: neither a .py file, a package nor a module") from None
            raise
    file = file.resolve()
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None or module_spec.loader is None or not file.is_file():
        raise FileNotFoundError(f"{where}: no such Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[file.stem] = module
    module_spec.loader.exec_module(module)
    return module


def load(target: str, name: str = "", version: str = "") -> Spec:
    """The verifier in FILE.py, FILE.py:FUNCTION, MODULE:FUNCTION or PACKAGE.zip. A function without
    the decorator is one too: named after itself, with any finite reward. `name` and `version`
    replace what it says of itself."""
    if target.endswith(".zip"):
        manifest, folder = package.unpack(target)
        return load(str(folder / manifest["entry"]), manifest["name"], manifest["version"])
    where, _, attribute = target.partition(":")
    module = _import(where)
    if attribute:
        if not hasattr(module, attribute):
            raise ValueError(f"{where}: has no {attribute!r}")
        found = [getattr(module, attribute)]
    else:
        found = [value for value in vars(module).values() if isinstance(value, Spec)]
        if len(found) != 1:
            raise ValueError(f"{target}: has {len(found)} functions with @verifier; exactly one is "
                             "needed, or name it: FILE.py:FUNCTION")
    spec = found[0]
    if not isinstance(spec, Spec):
        if not callable(spec):
            raise ValueError(f"{target}: is neither a function nor a verifier")
        spec = verifier(name=name or attribute, version=version or "0", reward_range=None)(spec)
    return replace(spec, name=name or spec.name, version=version or spec.version)


def files_of(target: str, spec: Spec) -> dict[str, Path]:
    """The verifier's own files by their names in a package: the file and what it includes."""
    where = target.partition(":")[0]
    file = Path(where if where.endswith(".py") else inspect.getfile(spec.function)).resolve()
    files = {file.name: file}
    for pattern in spec.includes:
        matches = [p for p in sorted(file.parent.glob(pattern)) if p.is_file()]
        if not matches:
            raise FileNotFoundError(f"{target}: includes {pattern!r}, and there is no such file")
        files.update({p.relative_to(file.parent).as_posix(): p for p in matches})
    return files


def digest(target: str, spec: Spec) -> str:
    """SHA-256 of name, version and the content of its files: the same for a file and its package."""
    if target.endswith(".zip"):
        manifest, folder = package.unpack(target)
        return digest(str(folder / manifest["entry"]), spec)
    h = hashlib.sha256()
    parts = [spec.name.encode(), spec.version.encode()]
    for name, file in sorted(files_of(target, spec).items()):
        parts += [name.encode(), file.read_bytes()]
    for part in parts:
        h.update(len(part).to_bytes(8, "little") + part)
    return h.hexdigest()
