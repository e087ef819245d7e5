"""Which step of a candidate an exception comes from, and what else it says of: the family that a failure binds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from search_spaces.errors import UnsupportedStep, UserError
from search_spaces.methods.family import Family
from search_spaces.methods.registry import Step, step_to_json
from search_spaces.outcome import Reason

# The attribute of an exception that says where it was raised; it outlasts the way from another process.
STEP = "raised_by_step"


class CarryingOut:
    """A context in which an exception is the step's: it is noted with the steps before it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = json.loads(json.dumps([step_to_json(step) for step in steps]))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not hasattr(error, STEP):
            setattr(error, STEP, self._steps)


def bound_family(error: BaseException, reason: Reason) -> Family | None:
    """The family that a candidate's own error binds; None for what comes by chance or by size (a number that is not
    finite, empty output, want of memory) and for what no step raised.

    What a method says that it can't take binds all of its steps with the parameters that the error names, `method.name`
    in its text, whatever comes before them, unless it was met after other steps. Any other error binds that step alone.
    """
    steps = next((getattr(one, STEP) for one in _chain(error) if hasattr(one, STEP)), None)
    if not steps or reason not in ("unsupported", "error"):
        return None
    *before, step = steps
    parameters = {name: value for name, value in step.items() if name != "method"}
    if not isinstance(error, (UserError, NotImplementedError)):
        return Family(step["method"], parameters, tuple(before))
    named = (
        error.parameters
        if isinstance(error, UnsupportedStep)
        else re.findall(rf"\b{re.escape(step['method'])}\.(\w+)", str(error))
    )
    bound = {name: parameters[name] for name in named if name in parameters}
    return Family(step["method"], bound, tuple(before) if before else None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__ or getattr(one, "cause", None)
