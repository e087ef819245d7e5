"""What measuring a candidate gains: the frontier by hand, the expectation against drawn qualities, the ladder."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogate.acquisition import Array, Front, expected_gain, front_of, ladder

FLOOR, MOST = 0.5, 10.0
FRONT = Front(np.array([4.0, 6.0, 8.0]), np.array([0.6, 0.7, 0.9]))


def area(log_bytes: Array, kept: Array) -> float:
    """What points dominate, between the floor and `MOST`: counted level by level."""
    front = front_of(log_bytes, kept, FLOOR, MOST)
    found, below = 0.0, FLOOR
    for size, quality in zip(front.log_bytes, front.kept, strict=True):
        found += (MOST - size) * (quality - below)
        below = quality
    return found


def gain_if(size: float, quality: float) -> float:
    sizes, qualities = np.append(FRONT.log_bytes, size), np.append(FRONT.kept, quality)
    return area(sizes, qualities) - area(FRONT.log_bytes, FRONT.kept)


def test_the_frontier_is_what_nothing_dominates_between_the_bounds() -> None:
    log_bytes = [5.0, 3.0, 4.0, 6.0, 4.0, 7.0, 10.0, 2.0, 6.5]
    kept = [0.7, 0.6, 0.6, 0.7, 0.8, 0.9, 1.0, 0.5, 0.85]
    # 3.0 and 4.0 of 0.8 and 6.5 and 7.0 stay: 2.0 is at the floor, 10.0 is no smaller than the baseline.
    found = front_of(log_bytes, kept, FLOOR, MOST)
    assert found.log_bytes.tolist() == [3.0, 4.0, 6.5, 7.0]
    assert found.kept.tolist() == [0.6, 0.8, 0.85, 0.9]


def test_the_order_of_points_does_not_matter_and_of_equals_one_stays() -> None:
    log_bytes, kept = np.array([5.0, 4.0, 5.0, 4.0]), np.array([0.8, 0.6, 0.8, 0.6])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        found = front_of(log_bytes[order], kept[order], FLOOR, MOST)
        assert (found.log_bytes.tolist(), found.kept.tolist()) == ([4.0, 5.0], [0.6, 0.8])


def test_no_points_have_no_frontier_and_then_all_above_the_floor_is_gained() -> None:
    empty = front_of([], [], FLOOR, MOST)
    assert len(empty.log_bytes) == len(empty.kept) == 0
    gained = expected_gain(empty, np.array([7.0]), np.array([0.9]), np.array([1e-9]), FLOOR, MOST)
    assert gained == pytest.approx([(MOST - 7.0) * (0.9 - FLOOR)])


@pytest.mark.parametrize("quality", [0.3, 0.55, 0.65, 0.75, 0.95])
@pytest.mark.parametrize("size", [3.0, 4.0, 5.0, 6.5, 9.0, 11.0])
def test_of_a_quality_that_is_sure_the_gain_is_the_area_that_it_adds(size: float, quality: float) -> None:
    gained = expected_gain(FRONT, np.array([size]), np.array([quality]), np.array([1e-9]), FLOOR, MOST)
    assert gained == pytest.approx([gain_if(size, quality)], abs=1e-7)


@pytest.mark.parametrize(("mean", "deviation"), [(0.55, 0.02), (0.68, 0.1), (0.9, 0.05), (0.4, 0.15)])
@pytest.mark.parametrize("size", [3.0, 5.0, 7.0, 9.5])
def test_the_expected_gain_is_the_mean_over_qualities(size: float, mean: float, deviation: float) -> None:
    away = np.linspace(-8.0, 8.0, 4001)
    density = np.exp(-(away**2) / 2) / np.sqrt(2 * np.pi)
    gains = np.array([gain_if(size, mean + deviation * one) for one in away])
    expected = float((gains * density).sum() * (away[1] - away[0]))
    gained = expected_gain(FRONT, np.array([size]), np.array([mean]), np.array([deviation]), FLOOR, MOST)
    assert gained == pytest.approx([expected], rel=1e-4, abs=1e-7)


def test_far_below_the_frontier_nothing_is_gained_and_a_doubt_gains_a_little() -> None:
    log_bytes, mean = np.full(3, 7.0), np.array([0.4, 0.6, 0.6])
    gained = expected_gain(FRONT, log_bytes, mean, np.array([0.01, 0.01, 0.1]), FLOOR, MOST)
    # At 7.0 the frontier has 0.7 already.
    assert gained[:2] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert gained[2] > 0.001


def test_a_candidate_no_smaller_than_the_baseline_gains_nothing() -> None:
    gained = expected_gain(FRONT, np.array([10.0, 12.0]), np.ones(2), np.full(2, 0.1), FLOOR, MOST)
    assert gained.tolist() == [0.0, 0.0]


def test_each_candidate_gains_what_it_would_alone() -> None:
    random = np.random.default_rng(0)
    log_bytes, mean, deviation = random.uniform(3, 11, 30), random.uniform(0.3, 1, 30), random.uniform(0.01, 0.2, 30)
    together = expected_gain(FRONT, log_bytes, mean, deviation, FLOOR, MOST)
    assert (together >= 0.0).all()
    alone = [float(expected_gain(FRONT, log_bytes[[n]], mean[[n]], deviation[[n]], FLOOR, MOST)[0]) for n in range(30)]
    assert together.tolist() == pytest.approx(alone)


def test_the_ladder_is_spread_over_sizes_and_its_largest_step_is_the_best_of_all() -> None:
    # The best of each size grows with it: every step has a candidate of its own.
    log_bytes = np.repeat(np.arange(11.0), 2)
    expected = np.tile([0.0, -0.2], 11) + 0.9 + log_bytes / 100
    found = ladder(log_bytes, expected, 6, 0.5, 0.0)
    assert log_bytes[found].tolist() == [10.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    assert found == [20, 16, 12, 8, 4, 0]


def test_steps_that_one_candidate_wins_give_one() -> None:
    log_bytes, expected = np.array([0.0, 1.0, 5.0, 10.0]), np.array([0.6, 0.9, 0.8, 0.95])
    assert ladder(log_bytes, expected, 6, 0.5, 0.0) == [3, 1, 0]


def test_of_equals_the_smaller_is_taken() -> None:
    log_bytes, expected = np.array([3.0, 2.0, 1.0, 2.0]), np.array([0.9, 0.9, 0.9, 0.9])
    assert ladder(log_bytes, expected, 4, 0.5, 0.0) == [2]
    assert ladder(log_bytes, np.array([0.9, 0.8, 0.7, 0.8]), 3, 0.5, 0.0) == [0, 1, 2]


def test_what_keeps_hardly_more_than_the_next_smaller_is_left_out() -> None:
    log_bytes, expected = np.arange(6.0), np.array([0.7, 0.9, 0.905, 0.91, 0.925, 0.93])
    assert ladder(log_bytes, expected, 6, 0.5, 0.0) == [5, 4, 3, 2, 1, 0]
    # By steps of less than 0.02 a rise of 0.02 is one step.
    assert ladder(log_bytes, expected, 6, 0.5, 0.02) == [4, 1, 0]


def test_candidates_expected_to_keep_too_little_are_no_steps_unless_all_are() -> None:
    log_bytes, expected = np.array([0.0, 1.0, 2.0]), np.array([0.4, 0.7, 0.9])
    assert ladder(log_bytes, expected, 3, 0.65, 0.0) == [2, 1]
    assert ladder(log_bytes, expected, 3, 0.95, 0.0) == [2, 1, 0]


def test_a_ladder_has_no_candidate_twice_whatever_the_space() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 5, 40):
        for _ in range(20):
            log_bytes, expected = random.integers(0, 6, count).astype(float), random.integers(0, 8, count) / 8
            found = ladder(log_bytes, expected, 6, 0.5, 0.0)
            assert 1 <= len(found) <= 6
            assert len(set(found)) == len(found)
            assert (np.diff(log_bytes[found]) < 0.0).all()
            assert (np.diff(expected[found]) < 0.0).all()
