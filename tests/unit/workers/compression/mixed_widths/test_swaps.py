"""Swaps: harm that the single scores don't show is found by measuring, within the window and the limits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workers.compression.mixed_widths import swaps
from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options, allocate
from workers.compression.mixed_widths.swaps import improve, proposals

GROUPS = 8
OPTIONS = Options(
    np.tile([0.0, 1.0, 2.0, 6.0], (GROUPS, 1)) * np.linspace(1.0, 1.4, GROUPS)[:, None],
    np.tile(np.array([8, 4, 3, 2]) * 1000, (GROUPS, 1)),
)
WINDOW = ByteRange(27_500, 28_000)


def interacting(allocation: Allocation) -> float:
    """The single harms, and much more for narrow groups side by side."""
    together = sum(10.0 for one, other in pairwise(allocation) if one >= 2 and other >= 2)
    return OPTIONS.predicted(allocation) + together


def start() -> Allocation:
    found = allocate(OPTIONS, WINDOW)
    assert found is not None
    return found


def test_interactions_are_swapped_away() -> None:
    asked: list[Allocation] = []
    held: list[Allocation] = []

    def measure(allocation: Allocation) -> float:
        asked.append(allocation)
        return interacting(allocation)

    found = improve(start(), OPTIONS, WINDOW, measure, held.append)
    assert found.before == interacting(start())
    assert found.after == interacting(found.allocation) == min(map(interacting, asked))
    assert found.after < found.before
    assert held[0] == start()
    assert held[-1] == found.allocation
    assert len(held) == found.taken + 1
    assert found.measured == len(asked) == len(set(asked)) <= swaps.MOST_MEASURED
    assert all(OPTIONS.total(allocation) in WINDOW for allocation in asked)


def test_a_start_that_nothing_betters_stays() -> None:
    best = start()
    found = improve(best, OPTIONS, WINDOW, lambda allocation: 1.0 if allocation == best else 2.0)
    assert (found.allocation, found.before, found.after, found.taken) == (best, 1.0, 1.0, 0)


def test_measurements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaps, "MOST_MEASURED", 9)
    found = improve(start(), OPTIONS, WINDOW, interacting)
    assert found.measured == 9


def test_swaps_move_at_most_four_groups_and_come_by_falling_promise() -> None:
    found = list(proposals(start(), OPTIONS, WINDOW))
    assert len(found) > 3
    for swap in found:
        assert 1 <= sum(one != other for one, other in zip(swap, start(), strict=True)) <= 1 + swaps.OTHERS
    harms = [OPTIONS.predicted(swap) for swap in found]
    assert harms == sorted(harms)
