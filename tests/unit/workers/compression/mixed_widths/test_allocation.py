"""Allocation: the optimum that trying everything finds, bytes within the window to the byte, and the isotonic fix."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from workers.compression.mixed_widths.allocation import (
    Allocation,
    ByteRange,
    Options,
    allocate,
    isotonic,
    possible_totals,
)


def drawn(seed: int, groups: int = 5) -> Options:
    rng = np.random.default_rng(seed)
    harm = np.sort(rng.exponential(size=(groups, 4)) ** 3, axis=1)
    size = rng.integers(1, 9, size=(groups, 1)) * np.array([[8, 4, 3, 2]]) * 1000 + 24
    return Options(harm, size)


def by_trying_all(options: Options, window: ByteRange) -> Allocation | None:
    choices = product(range(options.harm.shape[1]), repeat=len(options.harm))
    fitting = [choice for choice in choices if options.total(choice) in window]
    return min(fitting, key=options.predicted, default=None)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.3, 0.45, 0.7])
def test_the_solver_finds_what_trying_all_finds(seed: int, share: float) -> None:
    options = drawn(seed)
    high = int(options.bytes.max(axis=1).sum() * share)
    window = ByteRange(int(high * 0.98), high)
    expected, found = by_trying_all(options, window), allocate(options, window)
    assert (found is None) == (expected is None)
    if expected is not None and found is not None:
        assert options.total(found) in window
        assert options.predicted(found) == pytest.approx(options.predicted(expected), rel=1e-9)


def test_harms_of_very_unlike_size_are_told_apart() -> None:
    harm = np.array([[0.0, 1e-9, 2e-9, 5.0], [0.0, 3e-9, 4e-9, 5.0]])
    options = Options(harm, np.array([[8, 4, 3, 2], [8, 4, 3, 2]]) * 1000)
    assert allocate(options, ByteRange(12_000, 12_000)) == (1, 0)


def test_a_budget_is_kept_to_the_byte() -> None:
    options = Options(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[10**9, 1], [10**9 + 1, 1]]))
    assert allocate(options, ByteRange(0, 10**9 + 1)) == (0, 1)
    assert allocate(options, ByteRange(10**9 + 2, 10**9 + 2)) == (1, 0)
    assert allocate(options, ByteRange(10**9 + 3, 2 * 10**9)) is None


def test_a_missing_option_is_never_taken() -> None:
    options = Options(np.array([[0.0, 1.0, np.inf], [0.0, 9.0, 10.0]]), np.array([[8, 4, 0], [8, 4, 2]]))
    assert allocate(options, ByteRange(0, 8)) == (1, 1)
    assert possible_totals(options, 7) == (6, 8)


def test_totals_around_a_budget_are_the_nearest() -> None:
    options = drawn(3)
    totals = sorted(options.total(choice) for choice in product(range(4), repeat=5))
    budget = totals[len(totals) // 2] + 1
    below, beyond = possible_totals(options, budget)
    assert below == max(total for total in totals if total <= budget)
    assert beyond == min(total for total in totals if total > budget)
    assert possible_totals(options, totals[-1]) == (totals[-1], None)


def test_the_isotonic_fix_as_worked_out_by_hand() -> None:
    # 3 and 1 are pooled to 2; -1 counts as 0; what a group lacks stays inf.
    rows = np.array([[0.5, 3.0, 1.0, 7.0], [-1.0, 2.0, np.inf, np.inf], [4.0, 2.0, 0.0, 6.0]])
    expected = [[0.5, 2.0, 2.0, 7.0], [0.0, 2.0, np.inf, np.inf], [2.0, 2.0, 2.0, 6.0]]
    assert isotonic(rows).tolist() == expected
