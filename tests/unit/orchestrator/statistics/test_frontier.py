"""The frontier against its definition by brute force, and areas worked out by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from orchestrator.statistics.frontier import (
    COST_APART,
    Objectives,
    Standing,
    below_floor,
    dominates,
    hypervolume,
    on_frontier,
    standings,
)
from orchestrator.statistics.telling_apart import Matrix
from tests.support.examples import frontier_by_definition


@pytest.mark.parametrize("values", [2, 4, 10, 1000])
def test_the_frontier_is_what_the_definition_says(values: int) -> None:
    # Few values make ties and duplicates common, many make them rare.
    drawn = random.Random(values)
    for size in range(60):
        for _ in range(8):
            points = [Objectives(float(drawn.randrange(values)), drawn.randrange(1, values + 1)) for _ in range(size)]
            assert on_frontier(points) == frontier_by_definition(points), points


def test_the_frontier_does_not_depend_on_the_order_of_points() -> None:
    drawn = random.Random(1)
    points = [Objectives(float(drawn.randrange(6)), drawn.randrange(1, 7)) for _ in range(40)]
    kept = {point for point, keep in zip(points, on_frontier(points), strict=True) if keep}
    for _ in range(20):
        drawn.shuffle(points)
        assert {point for point, keep in zip(points, on_frontier(points), strict=True) if keep} == kept


def test_equal_points_stand_or_fall_together() -> None:
    best, worse = Objectives(50.0, 10), Objectives(40.0, 20)
    assert on_frontier([best, worse, best, worse]) == [True, False, True, False]
    assert on_frontier([worse, worse]) == [True, True]


def test_no_points_have_no_frontier() -> None:
    assert on_frontier([]) == []


def test_a_point_dominates_neither_itself_nor_a_trade() -> None:
    assert not dominates(Objectives(50.0, 10), Objectives(50.0, 10))
    assert not dominates(Objectives(60.0, 20), Objectives(50.0, 10))
    assert dominates(Objectives(50.0, 9), Objectives(50.0, 10))
    assert dominates(Objectives(50.1, 10), Objectives(50.0, 10))


def test_the_hypervolume_of_two_overlapping_rectangles() -> None:
    # From the corner (quality 10, 100 bytes): (30 - 10) × (100 - 40) = 1200 and (50 - 10) × (100 - 80) = 800 overlap in
    # (30 - 10) × (100 - 80) = 400, so 1200 + 800 - 400 = 1600.
    points = [Objectives(30.0, 40), Objectives(50.0, 80)]
    assert hypervolume(points, Objectives(10.0, 100)) == 1600.0
    assert hypervolume(points[::-1], Objectives(10.0, 100)) == 1600.0


def test_dominated_and_repeated_points_add_no_area() -> None:
    points = [
        Objectives(30.0, 40),
        Objectives(50.0, 80),
        Objectives(50.0, 80),
        Objectives(29.0, 41),
        Objectives(30.0, 60),
    ]
    assert hypervolume(points, Objectives(10.0, 100)) == 1600.0


def test_points_outside_the_reference_add_no_area() -> None:
    assert (
        hypervolume([Objectives(5.0, 40), Objectives(50.0, 100), Objectives(60.0, 140)], Objectives(10.0, 100)) == 0.0
    )
    assert (
        hypervolume([Objectives(5.0, 10), Objectives(30.0, 40), Objectives(90.0, 140)], Objectives(10.0, 100)) == 1200.0
    )
    assert hypervolume([], Objectives(10.0, 100)) == 0.0


@pytest.mark.parametrize(
    ("quality", "baseline", "share", "below"),
    [
        (29.9, 60.0, 0.5, True),
        (30.0, 60.0, 0.5, False),
        (0.0, 60.0, 0.0, False),
        (60.0, 60.0, 0.99, False),
        (1.0, None, 0.5, False),
        (-1.0, 0.0, 0.5, False),
        (-9.0, -2.0, 0.5, False),
    ],
)
def test_the_floor_is_a_share_of_the_baselines_quality(
    quality: float, baseline: float | None, share: float, below: bool
) -> None:
    assert below_floor(quality, baseline, share) == below


def test_a_third_objective_keeps_what_costs_less() -> None:
    small, fast, slow, unknown = (
        Objectives(50.0, 10, 2.0),
        Objectives(50.0, 20, 1.0),
        Objectives(50.0, 20, 3.0),
        Objectives(49.0, 20, math.inf),
    )
    assert on_frontier([small, fast, slow, unknown]) == [True, True, False, False]
    drawn = random.Random(3)
    for size in range(40):
        points = [
            Objectives(float(drawn.randrange(5)), drawn.randrange(5), float(drawn.randrange(5))) for _ in range(size)
        ]
        assert on_frontier(points) == frontier_by_definition(points), points


def matrix(size: int, *pairs: tuple[int, int]) -> Matrix:
    found: Matrix = np.zeros((size, size), dtype=bool)
    for one, other in pairs:
        found[one, other] = True
    return found


def test_what_costs_less_than_all_that_is_smaller_stands_whatever_it_keeps() -> None:
    points = [
        Objectives(50.0, 10, 2.0),
        Objectives(50.1, 20, 1.0),
        Objectives(49.0, 30, 1.5),
        Objectives(60.0, 40, 9.0),
    ]
    better = matrix(4, (0, 2), (1, 2), (3, 0), (3, 1), (3, 2))
    assert standings(points, better) == [
        Standing("frontier"),
        Standing("frontier"),
        Standing("beaten", 1),
        Standing("frontier"),
    ]


def test_costs_that_are_hardly_different_are_alike() -> None:
    near, apart = (Objectives(50.1, 20, 2.0 / factor) for factor in (0.99 * COST_APART, 1.01 * COST_APART))
    small = Objectives(50.0, 10, 2.0)
    assert standings([small, near], matrix(2))[1] == Standing("not told apart", 0)
    assert standings([small, apart], matrix(2))[1] == Standing("frontier")


def test_of_points_that_were_not_measured_none_beats_one_that_was() -> None:
    points = [Objectives(50.0, 10, math.inf), Objectives(40.0, 20, 1.0), Objectives(30.0, 30, math.inf)]
    assert [one.place for one in standings(points, matrix(3, (0, 1), (0, 2), (1, 2)))] == [
        "frontier", "frontier", "beaten",
    ]  # fmt: skip
