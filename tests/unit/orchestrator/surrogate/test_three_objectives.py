"""The hypervolume of three objectives, and what a candidate is expected to add to it, against counting a grid."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogate.acquisition import Array, expected_gain, front_of
from orchestrator.surrogate.three_objectives import Corner, Placed, bands_of, expected_volume, worst_cost

CORNER = Corner(log_bytes=10.0, log_cost=1.0, kept=0.5)
POINTS = [
    Placed(8.0, 0.95, 0.4),
    Placed(9.0, 0.9, -0.5),
    Placed(7.0, 0.7, 0.4),
    # Dominated, below the floor, too large and too dear.
    Placed(8.5, 0.8, 0.5),
    Placed(6.0, 0.4, 0.0),
    Placed(10.5, 1.0, -1.0),
    Placed(5.0, 1.0, 1.5),
]


def volume(points: list[Placed], steps: int = 60) -> float:
    """Counted on a grid of cells of the room below the corner."""
    sizes = np.linspace(5.0, 10.0, steps, endpoint=False) + 2.5 / steps
    costs = np.linspace(-1.0, 1.0, steps, endpoint=False) + 1.0 / steps
    shares = np.linspace(0.5, 1.1, steps, endpoint=False) + 0.3 / steps
    size, cost, share = np.meshgrid(sizes, costs, shares, indexing="ij")
    inside = np.zeros(size.shape, dtype=bool)
    for point in points:
        inside |= (size >= point.log_bytes) & (cost >= point.log_cost) & (share <= point.kept)
    return float(inside.mean() * 5.0 * 2.0 * 0.6)


def gained(points: list[Placed], size: float, cost: float, kept: float) -> float:
    bands = bands_of(points, np.array([size]), np.array([cost]), CORNER)
    return float(expected_volume(bands, np.array([kept]), np.array([1e-9]))[0])


def test_the_volume_is_what_counting_says() -> None:
    reached = bands_of(POINTS, np.array([7.0]), np.array([0.0]), CORNER).reached
    assert reached == pytest.approx(volume(POINTS), rel=0.03)
    assert bands_of([], np.array([7.0]), np.array([0.0]), CORNER).reached == 0.0


@pytest.mark.parametrize(
    ("size", "cost", "kept"),
    [(7.5, 0.0, 0.9), (9.5, -0.8, 0.85), (6.0, 0.9, 0.6), (8.0, 0.4, 1.0), (9.2, -0.2, 0.99), (5.5, -0.9, 1.05)],
)
def test_a_point_of_known_quality_adds_what_counting_says(size: float, cost: float, kept: float) -> None:
    more = volume([*POINTS, Placed(size, kept, cost)]) - volume(POINTS)
    assert gained(POINTS, size, cost, kept) == pytest.approx(more, rel=0.08, abs=0.01)


@pytest.mark.parametrize(
    ("size", "cost", "kept"), [(8.0, 0.4, 0.9), (9.5, 0.0, 0.85), (10.1, -2.0, 1.0), (6.0, 1.1, 1.0), (6.0, 0.0, 0.5)]
)
def test_what_is_dominated_or_beyond_the_corner_adds_nothing(size: float, cost: float, kept: float) -> None:
    assert gained(POINTS, size, cost, kept) == pytest.approx(0.0, abs=1e-7)


def test_a_quality_that_is_not_known_adds_the_mean_over_it() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.8, 0.1, 4000)
    bands = bands_of(POINTS, np.array([8.8]), np.array([-0.2]), CORNER)
    each: Array = np.array([gained(POINTS, 8.8, -0.2, float(draw)) for draw in draws])
    expected = expected_volume(bands, np.array([0.8]), np.array([0.1]))[0]
    assert expected == pytest.approx(float(each.mean()), rel=0.05)


def test_with_one_cost_it_is_the_area_of_two_objectives() -> None:
    points = [Placed(8.0, 0.95, 0.0), Placed(7.0, 0.7, 0.0)]
    sizes, means, deviations = np.array([6.5, 7.5, 9.0]), np.array([0.6, 0.9, 1.0]), np.array([0.1, 0.05, 0.2])
    bands = bands_of(points, sizes, np.zeros(3), CORNER)
    front = front_of([8.0, 7.0], [0.95, 0.7], CORNER.kept, CORNER.log_bytes)
    area = expected_gain(front, sizes, means, deviations, CORNER.kept, CORNER.log_bytes)
    np.testing.assert_allclose(expected_volume(bands, means, deviations), area * CORNER.log_cost, rtol=1e-9)


def test_the_dearest_row_can_still_add_something() -> None:
    assert worst_cost(np.array([-1.0, 0.0, 0.5])) == pytest.approx(0.8)
    assert worst_cost(np.zeros(4)) == pytest.approx(0.1)
