"""Neighbours of an allocation: the least harmful one that trying all finds, whatever groups have in common."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options
from workers.compression.mixed_widths.neighbours import nearest, neighbours_of


def drawn(seed: int, kinds: int, groups: int = 7) -> Options:
    """Groups of so many sizes, one of them without its smallest option."""
    rng = np.random.default_rng(seed)
    harm = np.sort(rng.exponential(size=(groups, 4)) ** 3, axis=1)
    harm[groups // 2, 3] = np.inf
    size = rng.integers(1, 9, size=kinds)[np.arange(groups) % kinds]
    return Options(harm, size[:, None] * np.array([[8, 4, 3, 2]]) * 1000 + 24)


def by_trying_all(
    options: Options, window: ByteRange, current: Allocation, group: int, option: int, most: int
) -> float | None:
    """The least harm of an allocation that differs in the group and up to `most` others."""
    found = []
    others = [one for one in range(len(current)) if one != group]
    for count in range(most + 1):
        for chosen in combinations(others, count):
            for values in product(range(4), repeat=count):
                changed = list(current)
                changed[group] = option
                for one, value in zip(chosen, values, strict=True):
                    changed[one] = value
                if options.total(changed) in window and np.isfinite(options.predicted(changed)):
                    found.append(options.predicted(changed))
    return min(found, default=None)


@pytest.mark.parametrize("kinds", [1, 2, 7])
@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_is_what_trying_all_finds(seed: int, kinds: int) -> None:
    options = drawn(seed, kinds)
    current: Allocation = tuple(int(one) for one in np.random.default_rng(seed).integers(0, 3, size=7))
    total = options.total(current)
    window = ByteRange(total - 3000, total + 500)
    for most in (0, 1, 3):
        around = neighbours_of(options, current, most)
        for group, option in ((0, (current[0] + 1) % 3), (3, 2), (5, 0)):
            expected = by_trying_all(options, window, current, group, option, most)
            found = nearest(options, window, around, group, option)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert found[group] == option and options.total(found) in window
                assert sum(one != other for one, other in zip(found, current, strict=True)) <= most + 1
                assert options.predicted(found) == pytest.approx(expected, rel=1e-12)


def test_nothing_changes_where_groups_have_one_option() -> None:
    options = Options(np.array([[0.0, np.inf], [0.0, np.inf]]), np.array([[8, 0], [8, 0]]))
    around = neighbours_of(options, (0, 0), 3)
    assert nearest(options, ByteRange(16, 16), around, 0, 0) == (0, 0)
    assert nearest(options, ByteRange(0, 15), around, 0, 0) is None
