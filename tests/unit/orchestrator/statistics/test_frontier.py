"""The frontier against its definition by brute force, and areas worked out by hand."""

from __future__ import annotations

import random

import pytest

from orchestrator.statistics.frontier import Objectives, below_floor, dominates, hypervolume, on_frontier
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
