"""Which option each group of weights gets, so that the summed harm is least and the bytes fill a budget.

The multiple-choice knapsack problem (Kellerer, Pferschy and Pisinger 2004, Knapsack Problems, chapter 11), solved
exactly as a mixed-integer linear program. Arrays are (groups, options); an allocation is one option's number a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Allocation = tuple[int, ...]

# Harms are scaled so that the largest is this: the solver takes solutions 1e-6 apart for equal.
_LARGEST = 1e4


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes an allocation may take, both ends included."""

    low: int
    high: int

    def __contains__(self, total: int) -> bool:
        return self.low <= total <= self.high


@dataclass(frozen=True, slots=True)
class Options:
    """harm: float64, inf where a group lacks the option. bytes: int64; both (groups, options), each row from its
    largest option to its smallest."""

    harm: Array
    bytes: Array

    def total(self, allocation: Sequence[int]) -> int:
        """Bytes of an allocation."""
        return int(self.bytes[np.arange(len(allocation)), list(allocation)].sum())

    def predicted(self, allocation: Sequence[int]) -> float:
        """Summed harm of an allocation."""
        return float(self.harm[np.arange(len(allocation)), list(allocation)].sum())


def isotonic(harm: Array) -> Array:
    """Each row made non-decreasing and at least 0 by pooling adjacent violators (Barlow et al. 1972); inf stays."""
    made = np.array(harm, dtype=np.float64)
    for row in made:
        blocks: list[tuple[float, int]] = []
        finite = np.isfinite(row)
        for value in row[finite]:
            blocks.append((max(float(value), 0.0), 1))
            while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
                (last, count), (before, more) = blocks.pop(), blocks.pop()
                blocks.append(((last * count + before * more) / (count + more), count + more))
        row[finite] = [mean for mean, count in blocks for _ in range(count)]
    return made


def allocate(options: Options, window: ByteRange) -> Allocation | None:
    """The allocation of least summed harm whose bytes lie in the window, or None when there is none."""
    least = np.where(np.isfinite(options.harm), options.bytes, np.iinfo(np.int64).max).min(axis=1)
    beyond = np.where(np.isfinite(options.harm), options.bytes - least[:, None], 0)
    unit = math.gcd(*map(int, beyond.ravel())) or 1
    rest = int(least.sum())
    # Whole numbers of units, so that the solver's tolerances can't let a byte slip by.
    return _solve(
        options.harm, beyond / unit, math.ceil((window.low - rest) / unit), math.floor((window.high - rest) / unit)
    )


def possible_totals(options: Options, budget: int) -> tuple[int | None, int | None]:
    """The most bytes that any allocation takes within the budget, and the fewest that one takes beyond it."""
    totals: list[int | None] = []
    for sign, window in (
        (-1.0, ByteRange(0, budget)),
        (1.0, ByteRange(budget + 1, int(options.bytes.max(axis=1).sum()))),
    ):
        # Bytes stand for harm: as many as fit, or as few as go beyond.
        harm = np.where(np.isfinite(options.harm), sign * options.bytes.astype(np.float64), np.inf)
        found = allocate(Options(harm, options.bytes), window)
        totals.append(None if found is None else options.total(found))
    return totals[0], totals[1]


def _solve(harm: Array, units: Array, low: int, high: int) -> Allocation | None:
    from scipy.optimize import Bounds, LinearConstraint, milp

    groups, options = harm.shape
    allowed = np.isfinite(harm)
    costs = np.where(allowed, harm, 0.0)
    one_each = np.kron(np.eye(groups), np.ones(options))
    constraints = [LinearConstraint(one_each, 1.0, 1.0), LinearConstraint(units.reshape(1, -1), low, high)]
    result = milp(
        costs.ravel() * (_LARGEST / max(float(np.abs(costs).max()), 1e-300)),
        integrality=np.ones(groups * options),
        bounds=Bounds(0.0, allowed.ravel().astype(np.float64)),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    return tuple(int(option) for option in result.x.reshape(groups, options).argmax(axis=1))
