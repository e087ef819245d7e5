"""The hypervolume over log bytes and kept share: by hand, of each point's own part, and as points come."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.statistics.frontier import Objectives
from orchestrator.statistics.hypervolume import GrowingFront, hypervolume_over_log_bytes, own_shares

BASELINE = Objectives(50.0, 1600)


def test_two_points_by_hand() -> None:
    points = [Objectives(40.0, 200), Objectives(50.0, 800)]
    by_hand = (0.8 - 0.5) * math.log(8) + (1.0 - 0.8) * math.log(2)
    assert hypervolume_over_log_bytes(points, BASELINE, 0.5) == pytest.approx(by_hand)
    dominated = [*points, Objectives(39.0, 300), Objectives(90.0, 1600), Objectives(20.0, 10)]
    assert hypervolume_over_log_bytes(dominated, BASELINE, 0.5) == pytest.approx(by_hand)


def test_nothing_has_no_area() -> None:
    assert hypervolume_over_log_bytes([], BASELINE, 0.5) == 0.0
    assert hypervolume_over_log_bytes([BASELINE], BASELINE, 0.0) == 0.0
    assert hypervolume_over_log_bytes([Objectives(1.0, 1)], Objectives(0.0, 10), 0.0) == 0.0


def test_a_points_own_share_is_what_would_be_lost_without_it() -> None:
    points = [Objectives(40.0, 200), Objectives(50.0, 800)]
    whole = 0.3 * math.log(8) + 0.2 * math.log(2)
    shares = own_shares(points, BASELINE, 0.5)
    assert shares == pytest.approx([0.3 * (math.log(8) - math.log(2)) / whole, 0.2 * math.log(2) / whole])
    assert own_shares([points[0], points[0]], BASELINE, 0.5) == [0.0, 0.0]
    assert own_shares([BASELINE], BASELINE, 0.5) == [0.0]


def test_as_points_come_the_hypervolume_is_that_of_all_so_far() -> None:
    draw = random.Random(0)
    points = [Objectives(draw.uniform(10, 60), draw.randrange(100, 2000)) for _ in range(60)]
    front = GrowingFront(BASELINE, 0.5)
    for number, point in enumerate(points, start=1):
        front.add(point)
        assert front.hypervolume == pytest.approx(hypervolume_over_log_bytes(points[:number], BASELINE, 0.5))
        able = [one.bytes for one in points[:number] if one.quality >= 45.0]
        smallest = front.smallest(0.9)
        assert (smallest.bytes if smallest else None) == min(able, default=None)
