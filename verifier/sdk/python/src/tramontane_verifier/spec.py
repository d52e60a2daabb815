"""The decorator, and what it knows of a verifier."""
import hashlib
import importlib.util
import inspect
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

# Given to a function that asks for them; anything else is looked up in the row's params.
ARGUMENTS = (
    "prompt",
    "completion",
    "answer",
    "params",
    "messages",
    "completion_tokens",
    "finish_reason",
    "group_id",
    "policy_version",
    "seed",
)


class BadInput(Exception):
    """The row cannot be judged, by its own fault."""


@dataclass(frozen=True)
class Spec:
    """One verifier: a function and how to run it."""

    function: Callable[..., Any]
    name: str
    version: str
    reward_range: tuple[float, float]
    timeout_s: float
    determinism: str
    components: tuple[str, ...]

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def call(self, request: dict[str, Any]) -> Any:
        """Calls the function with the arguments it names."""
        params = request.get("params") or {}
        given = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                taken = {**params, **{k: request.get(k) for k in ARGUMENTS}}
                given.update({k: v for k, v in taken.items() if k not in given})
            elif name in ARGUMENTS:
                given[name] = request.get(name)
            elif name in params:
                given[name] = params[name]
            elif parameter.default is inspect.Parameter.empty:
                raise BadInput(f"the row's params have no {name!r}")
        return self.function(**given)


def verifier(
    *,
    name: str,
    version: str,
    reward_range: tuple[float, float] = (0.0, 1.0),
    timeout_s: float = 10.0,
    determinism: str = "pure",
    components: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Spec]:
    """Makes a function a verifier. `timeout_s` bounds one execution when the caller says nothing."""
    low, high = (float(bound) for bound in reward_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"reward_range must be two finite numbers in order, not {reward_range}")
    if not timeout_s > 0:
        raise ValueError("timeout_s must be positive")
    if determinism not in ("pure", "seeded", "none"):
        raise ValueError("determinism is 'pure', 'seeded' or 'none'")
    if not name or not version:
        raise ValueError("a verifier needs a name and a version")

    def wrap(function: Callable[..., Any]) -> Spec:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(f"{function.__name__}: arguments are given by name")
        return Spec(
            function, name, version, (low, high), float(timeout_s), determinism, tuple(components)
        )

    return wrap


def load(path: str) -> Spec:
    """Imports a file and returns the one verifier in it."""
    file = Path(path).resolve()
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None or module_spec.loader is None or not file.is_file():
        raise FileNotFoundError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[file.stem] = module
    module_spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, Spec)]
    if len(found) != 1:
        raise ValueError(f"{path}: has {len(found)} functions with @verifier; exactly one is needed")
    return found[0]


def digest(path: str, spec: Spec) -> str:
    """SHA-256 of name, version and the file's source."""
    h = hashlib.sha256()
    for part in (spec.name.encode(), spec.version.encode(), Path(path).read_bytes()):
        h.update(len(part).to_bytes(8, "little") + part)
    return h.hexdigest()
