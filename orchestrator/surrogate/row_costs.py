"""What a candidate costs in a study's third objective, before it is measured: memory from headers, time from timings.

A cost is a log ratio to the uncompressed model's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from orchestrator.surrogate.rows import REMOVED, Array, Rows, Steps, bits_of, by_kind, kind_of, options_alone
from search_spaces.spaces.axes import TRAINING

# Steps and their bytes on disk in, bytes of memory out.
Memory = Callable[[Steps, int], int]
Option = tuple[str, int]


class RowCosts(Protocol):
    """The log costs of a space's rows. to_time: what has to be timed first, the uncompressed model before all others.
    timed: hears what a candidate was found to cost, infinite where it could not be timed. of: what any candidate is
    expected to cost; those that say nothing of it count as the uncompressed model does."""

    @property
    def to_time(self) -> list[Steps]: ...

    @property
    def ready(self) -> bool: ...

    def timed(self, steps: Steps, cost: float) -> None: ...

    def rows(self) -> Array: ...

    def of(self, steps: Steps, size: int) -> float: ...


class MemoryCosts:
    """Bytes of memory as a model ships, worked out from headers."""

    def __init__(self, rows: Rows, whole: int, memory: Memory) -> None:
        """whole: the baseline's bytes on disk."""
        self._rows = rows
        self._memory = memory
        self._baseline = memory((), whole)

    @property
    def to_time(self) -> list[Steps]:
        """Nothing."""
        return []

    @property
    def ready(self) -> bool:
        """Always."""
        return True

    def timed(self, steps: Steps, cost: float) -> None:
        """Nothing: what headers say goes before."""

    def rows(self) -> Array:
        """(rows,)"""
        return np.array([self.of(self._rows.steps(row), int(size)) for row, size in enumerate(self._rows.bytes)])

    def of(self, steps: Steps, size: int) -> float:
        return math.log(self._memory(steps, size) / self._baseline)


class TimedCosts:
    """Seconds a token as a model ships, from timings of options by themselves.

    Of an axis that removes something the option that removes most is timed, and the others go by the bytes that they
    save; of the widths of an axis each is timed once, whatever the method, for one kernel runs them all. Log costs of
    the options of a row add up. What can't be timed is taken to be the slowest.
    """

    def __init__(self, rows: Rows, timable: Callable[[Steps], bool]) -> None:
        self._rows = rows
        self._timable = timable
        # Each looks through all rows, and costs are asked for often.
        self._alone = {axis: options_alone(rows, axis) for axis in rows.axes if axis != TRAINING}
        self._option_of = {rows.steps(row)[0]: (axis, at) for axis, alone in self._alone.items() for at, row in alone}
        self._chosen = {option: rows.steps(row) for option, row in self._options_to_time()}
        self._found: dict[Steps, float] = {}

    @property
    def to_time(self) -> list[Steps]:
        """The uncompressed model, then what each option makes by itself that can be timed here."""
        return [(), *(steps for steps in self._chosen.values() if self._timable(steps))]

    @property
    def ready(self) -> bool:
        """Whether all of it has been told."""
        return all(steps in self._found for steps in self.to_time)

    def timed(self, steps: Steps, cost: float) -> None:
        """Seconds a token of what these steps make; its first telling counts, and that of others is not needed."""
        if steps in self.to_time:
            self._found.setdefault(steps, cost)

    def rows(self) -> Array:
        """(rows,)"""
        columns = [
            self._of_axis(axis)[self._rows.options[:, at]]
            for at, axis in enumerate(self._rows.axes)
            if axis != TRAINING
        ]
        whole: Array = np.sum(columns, axis=0)
        known = np.isfinite(whole)
        # Of what was timed alone some may be dearer than any row of which all is known.
        return np.where(known, whole, max(float(whole[known].max(initial=0.0)), self._dearest()))

    def of(self, steps: Steps, size: int) -> float:
        """What any candidate is expected to cost. size: its bytes on disk, of which the speed is not told."""
        found = 0.0
        for step in steps:
            if step.kind != "trainer" and (option := self._option_like(step)) is not None:
                one = float(self._of_axis(option[0])[option[1]])
                found += one if math.isfinite(one) else self._dearest()
        return found

    def _option_like(self, step: object) -> Option | None:
        """The option that makes this step, or one of the same width."""
        if step in self._option_of:
            return self._option_of[step]
        alike = (
            option
            for known, option in self._option_of.items()
            if known.kind == getattr(step, "kind", None) and getattr(known, "bits", None) == getattr(step, "bits", 0)
        )
        return next(alike, None)

    def _options_to_time(self) -> list[tuple[Option, int]]:
        found: list[tuple[Option, int]] = []
        for axis, alone in self._alone.items():
            kinds = by_kind(alone, self._rows.axes[axis])
            able = alone[-1:] if axis in REMOVED else [one for kind in kinds for one in self._once_a_width(kind, axis)]
            found += [((axis, at), row) for at, row in able]
        return found

    def _log(self, steps: Steps) -> float:
        """Infinite where it could not be timed, 0 where the baseline could not."""
        baseline = self._found.get((), math.inf)
        if not math.isfinite(baseline):
            return 0.0
        cost = self._found.get(steps, math.inf)
        return math.log(cost / baseline) if math.isfinite(cost) else math.inf

    def _dearest(self) -> float:
        return max((log for steps in self._chosen.values() if math.isfinite(log := self._log(steps))), default=0.0)

    def _of_axis(self, axis: str) -> Array:
        """What each option of the axis costs; infinite where nothing like it was timed."""
        options = self._rows.axes[axis]
        found = np.full(len(options), math.inf)
        found[0] = 0.0
        timed = {at: self._log(steps) for (name, at), steps in self._chosen.items() if name == axis}
        saved = {at: self._saved(row) for at, row in self._alone[axis]}
        for at in range(1, len(options)):
            alike = {one: log for one, log in timed.items() if kind_of(options[one]) == kind_of(options[at])}
            if at in timed:
                found[at] = timed[at]
            elif alike and at in saved:
                near = min(alike, key=lambda one: abs(saved[one] - saved[at]))
                share = saved[at] / saved[near] if axis in REMOVED else 1.0
                # A part of the layers takes a part of the time away.
                found[at] = math.log1p(share * math.expm1(alike[near])) if math.isfinite(alike[near]) else math.inf
        return found

    def _saved(self, row: int) -> int:
        return int(self._rows.bytes[0] - self._rows.bytes[row])

    def _once_a_width(self, able: list[tuple[int, int]], axis: str) -> list[tuple[int, int]]:
        """The first option of each width; of options without one, such as mixed widths, none where others have one."""
        widths: dict[object, tuple[int, int]] = {}
        for at, row in able:
            widths.setdefault(bits_of(self._rows.axes[axis][at]), (at, row))
        if len(widths) > 1:
            widths.pop(None, None)
        return list(widths.values())
