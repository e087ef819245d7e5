"""Sampling: balanced directions, every pair once an epoch, and any step known from its number alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from workers.training.data.permutation import key_of, permute
from workers.training.data.sampling import BLOCK, balanced_shares, choose_rows, draws


@dataclass(frozen=True)
class Pairs:
    """What sampling looks at: rows by stratum, or in the order in which they are read."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    order: Any
    in_order: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(sum(self.counts[:place]) for place in range(len(self.counts)))


def pairs(*counts: int) -> Any:
    """One direction a count; rows are numbered from the last to the first, so that order is not identity."""
    shares = balanced_shares([(f"d{place}", 1.0, count) for place, count in enumerate(counts)])
    return Pairs(counts, tuple(shares), np.arange(sum(counts))[::-1])


def stratum_of(data: Any, row: int) -> int:
    place = sum(data.counts) - 1 - row
    return int(np.searchsorted(data.starts, place, side="right")) - 1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000, 4096, 70_001])
def test_a_permutation_holds_every_index_once(size: int) -> None:
    for key in (0, 1, key_of("any", 7)):
        assert sorted(permute(np.arange(size), size, key)) == list(range(size))


def test_permutations_differ_by_key_and_look_drawn() -> None:
    first = permute(np.arange(1000), 1000, 1)
    assert (first != permute(np.arange(1000), 1000, 2)).mean() > 0.98
    assert abs(np.corrcoef(np.arange(1000), first)[0, 1]) < 0.1
    # Where index 0 goes, over 4000 keys, in ten bins of 400 each: chi-squared with 9 degrees of freedom.
    places = [int(permute(np.array([0]), 1000, key)[0]) // 100 for key in range(4000)]
    counts = np.bincount(places, minlength=10)
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # one in a thousand


def test_every_pair_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    data = pairs(1000)
    epochs = [[row for step in range(10) for row in choose_rows(data, 10 * epoch + step, 100, 5)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(1000)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    data = pairs(5000, 300, 40)
    in_turn = [choose_rows(data, step, 64, 1) for step in range(200)]
    assert [choose_rows(data, step, 64, 1) for step in (199, 63, 64, 0)] == [in_turn[step] for step in (199, 63, 64, 0)]
    # The same draws in steps of another size.
    assert [row for rows in in_turn for row in rows] == [
        row for step in range(50) for row in choose_rows(data, step, 256, 1)
    ]
    assert choose_rows(data, 0, 64, 2) != in_turn[0]


def test_directions_are_drawn_by_their_counts_to_the_power_of_three_tenths() -> None:
    data = pairs(15_000, 2_000, 15_000)
    drawn = Counter(stratum_of(data, row) for row in choose_rows(data, 0, 4 * BLOCK, 0))
    expected = np.array([15_000**0.3, 2_000**0.3, 15_000**0.3])
    for place, share in enumerate(expected / expected.sum()):
        assert drawn[place] / (4 * BLOCK) == pytest.approx(share, abs=1 / BLOCK)


def test_in_each_of_many_directions_an_epoch_holds_every_pair_once() -> None:
    data = pairs(700, 90, 13)
    rows = [row for step in range(300) for row in choose_rows(data, step, 64, 9)]
    for stratum, count in enumerate(data.counts):
        mine = [row for row in rows if stratum_of(data, row) == stratum]
        epochs = [mine[start : start + count] for start in range(0, len(mine) - count + 1, count)]
        assert len(epochs) > 10 and all(len(set(epoch)) == count for epoch in epochs)


def test_weights_of_files_multiply() -> None:
    alone = balanced_shares([("en-de", 1.0, 100), ("en-fr", 1.0, 100)])
    assert alone == [0.5, 0.5]
    assert balanced_shares([("en-de", 3.0, 100), ("en-fr", 1.0, 100)]) == pytest.approx([0.75, 0.25])
    # Two files of one direction: by their pairs, and the direction by the mean weight of its pairs.
    shares = balanced_shares([("en-de", 1.0, 50), ("en-de", 3.0, 50), ("en-fr", 1.0, 100)])
    assert shares == pytest.approx([1 / 6, 3 / 6, 2 / 6])
    assert balanced_shares([("en-de", 2.0, 0), ("en-fr", 1.0, 7)]) == [0.0, 1.0]


def test_a_stratum_as_good_as_empty_is_drawn_all_the_same() -> None:
    strata, ordinals = draws([1 - 1e-6, 1e-6], 0, BLOCK, 0)
    assert (strata == 1).sum() == 1 and sorted(ordinals[strata == 0]) == list(range(BLOCK - 1))


def test_pairs_in_order_are_read_in_it_first_and_shuffled_from_then_on() -> None:
    order = np.array([4, 0, 3, 0, 2, 1])
    data: Any = Pairs((5,), (1.0,), order, in_order=True)
    assert [row for step in range(3) for row in choose_rows(data, step, 2, 0)] == list(order)
    later = [[row for step in range(3) for row in choose_rows(data, 3 * epoch + step, 2, 0)] for epoch in range(1, 5)]
    assert all(sorted(rows) == sorted(order) for rows in later) and len({tuple(rows) for rows in later}) > 1


def test_ten_million_pairs_cost_no_more_than_ten_thousand() -> None:
    @dataclass(frozen=True)
    class Endless:
        def __getitem__(self, places: Any) -> Any:
            return places

    data: Any = Pairs((9_000_000, 1_000_000), (0.66, 0.34), Endless())
    choose_rows(data, 0, 64, 0)
    began = time.perf_counter()
    for step in range(10**9, 10**9 + 50):
        choose_rows(data, step, 64, 0)
    assert (time.perf_counter() - began) / 50 < 0.05
