"""Bettering an allocation by measurements of the whole model: local swaps, the best of a few taken at a time.

A solver's sum of single harms ignores how they interact. A swap moves one group a width up or down, and up to three
others so that the bytes stay in their window; those that the sum likes best are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options
from workers.compression.mixed_widths.neighbours import nearest, neighbours_of
from workers.runtime.working import working

# Swaps measured before the best of them is taken.
AT_ONCE = 6
MOST_MEASURED = 60
MOST_TAKEN = 20
OTHERS = 3
# First moves that are completed to swaps, least harm a byte first.
SHORTLIST = 24


@dataclass(frozen=True, slots=True)
class Improved:
    """What a search by swaps found."""

    allocation: Allocation
    """The last allocation, the best one."""
    before: float
    """Measured harm of the first allocation."""
    after: float
    """Measured harm of the last allocation."""
    measured: int
    """How many allocations were measured, the first included."""
    taken: int
    """How many swaps were taken."""


def improve(
    start: Allocation,
    options: Options,
    window: ByteRange,
    measure: Callable[[Allocation], float],
    settle: Callable[[Allocation], None] = lambda allocation: None,
) -> Improved:
    """The best allocation found from `start` on; its measured harm is never more than the start's.

    settle: told of every allocation that is taken, so that `measure` may work from there.
    """
    settle(start)
    before = value = measure(start)
    current, seen, taken = start, {start}, 0
    waiting = proposals(current, options, window)
    while len(seen) < MOST_MEASURED and taken < MOST_TAKEN:
        fresh: list[Allocation] = []
        for proposal in waiting:
            if proposal not in seen and proposal not in fresh:
                fresh.append(proposal)
            if len(fresh) == min(AT_ONCE, MOST_MEASURED - len(seen)):
                break
        if not fresh:
            break
        seen.update(fresh)
        working("measuring swaps, at most", len(seen), MOST_MEASURED)
        harm, best = min((measure(proposal), proposal) for proposal in fresh)
        if harm < value:
            current, value, taken = best, harm, taken + 1
            settle(current)
            waiting = proposals(current, options, window)
    return Improved(current, before, value, len(seen), taken)


def proposals(current: Allocation, options: Options, window: ByteRange) -> Iterator[Allocation]:
    """Swaps from `current`, those of least summed harm first."""
    around = neighbours_of(options, current, OTHERS)
    found = {
        swap
        for group, option in _first_moves(current, options)
        if (swap := nearest(options, window, around, group, option)) is not None
    }
    return iter(sorted(found, key=lambda swap: (options.predicted(swap), swap)))


def _first_moves(current: Allocation, options: Options) -> list[tuple[int, int]]:
    """(group, its new option), by harm plus bytes at the price where the best move up would pay."""
    moves: list[tuple[int, int, float, int]] = []
    for group, option in enumerate(current):
        for new in (option - 1, option + 1):
            if 0 <= new < options.harm.shape[1] and np.isfinite(options.harm[group, new]):
                harm = float(options.harm[group, new] - options.harm[group, option])
                moves.append((group, new, harm, int(options.bytes[group, new] - options.bytes[group, option])))
    price = max((-harm / size for _, _, harm, size in moves if size > 0), default=0.0)
    ranked = sorted(moves, key=lambda move: (move[2] + price * move[3], move[0], move[1]))
    return [(group, new) for group, new, _, _ in ranked[:SHORTLIST]]
