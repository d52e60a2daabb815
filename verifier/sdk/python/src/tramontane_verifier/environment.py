"""Write an environment as one Python class: what answers a policy between its turns.

    from tramontane_verifier.environment import Step, environment

    @environment(name="guess", version="1.0.0")
    class Guess:
        def reset(self, row):            # row: prompt, messages, answer, params, row_id, seed
            self.secret = int(row["answer"])
            return ""                    # or a first observation: a text, or a list of token ids

        def step(self, action):          # what the policy said in this turn
            if action.strip() == str(self.secret):
                return Step(reward=1.0, done=True, correct=True)
            return Step("higher\\n" if int(action) < self.secret else "lower\\n")

One object is made for each episode, in a process of the episode's own, a copy of one that has loaded the
file: what the file has set up is there, what an episode changes stays its own. Its methods are never
called two at a time. One that does not return within `call_timeout_s` is killed with its process, and
costs that episode alone. A `close` method, if there is one, is called when nobody goes on. Serve it:
`tramontane verifier environment FILE.py`.
"""
import dataclasses
import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

__all__ = ["BadRow", "EnvironmentSpec", "Step", "environment", "load"]


class BadRow(Exception):
    """Raised by `reset`: the row is at fault, another try cannot help."""


@dataclasses.dataclass
class Step:
    """What comes of a turn. Observations are context for the policy and never trained on."""
    observation: str | list[int] = ""
    reward: float = 0.0
    done: bool = False
    correct: bool = False
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    feedback: str = ""


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    make: type
    name: str
    version: str
    digest: str
    max_episodes: int
    idle_timeout_s: float
    call_timeout_s: float


def environment(*, name: str, version: str = "0.1.0", max_episodes: int = 4096,
                idle_timeout_s: float = 600.0, call_timeout_s: float = 20.0):
    """`max_episodes`: held at once; beyond it clients are told to come back. `idle_timeout_s`: after
    which an episode that nobody stepped is forgotten. `call_timeout_s`: of one call of `reset`, `step` or
    `close`; below the clients' own `request_timeout_s` (30), so that they hear what came of it."""
    if not name:
        raise ValueError("environment: needs a name")
    if max_episodes < 1 or not idle_timeout_s > 0 or not call_timeout_s > 0:
        raise ValueError("environment: max_episodes, idle_timeout_s and call_timeout_s must be positive")

    def decorate(make: type) -> EnvironmentSpec:
        for method in ("reset", "step"):
            if not callable(getattr(make, method, None)):
                raise TypeError(f"environment {name}: {make.__name__} has no method {method!r}")
        source = Path(inspect.getfile(make)).read_bytes()
        digest = hashlib.sha256(b"\0".join((name.encode(), version.encode(), source))).hexdigest()
        return EnvironmentSpec(make, name, version, digest, max_episodes, idle_timeout_s, call_timeout_s)

    return decorate


def load(target: str) -> EnvironmentSpec:
    """The one environment in FILE.py, or FILE.py:NAME."""
    where, _, attribute = target.partition(":")
    path = Path(where).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or not path.is_file():
        raise FileNotFoundError(f"{where}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where inspect looks for the source
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    found = ([getattr(module, attribute, None)] if attribute else
             [value for value in vars(module).values() if isinstance(value, EnvironmentSpec)])
    if len(found) != 1 or not isinstance(found[0], EnvironmentSpec):
        raise ValueError(f"{target}: exactly one class with @environment is needed, or name it: "
                         "FILE.py:NAME")
    return found[0]


def as_step(value: Any) -> Step:
    """What `step` returned; TypeError or ValueError when it is none."""
    if not isinstance(value, Step):
        raise TypeError(f"step must return a Step, got {type(value).__name__}")
    value.reward = float(value.reward)
    numbers = {"reward": value.reward, **{k: float(v) for k, v in value.metrics.items()}}
    for key, number in numbers.items():
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError(f"{key} is not finite")
    return value
