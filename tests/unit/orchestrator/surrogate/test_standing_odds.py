"""The chance to stand: higher for what keeps more, and learned from what stood and what did not."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogate.standing_odds import MIDDLE, Array, standing_odds

KEPT = np.linspace(0.0, 1.0, 101)


def odds_after(stood: dict[float, bool]) -> Array:
    return standing_odds(np.array(list(stood)), np.array(list(stood.values()), dtype=bool), KEPT)


def test_what_keeps_more_is_likelier_to_stand() -> None:
    for stood in ({}, {0.7: True}, {0.7: False}, {0.8: True, 0.6: False}):
        odds = odds_after(stood)
        assert (np.diff(odds) > 0.0).all()
        assert ((odds > 0.0) & (odds < 1.0)).all()


def test_before_anything_is_known_the_middle_has_even_odds_and_the_whole_quality_is_nearly_sure() -> None:
    even, whole = standing_odds(np.zeros(0), np.zeros(0, dtype=bool), np.array([MIDDLE, 1.0]))
    assert even == pytest.approx(0.5, abs=0.05)
    assert whole > 0.9


def test_one_that_stands_raises_the_odds_and_one_that_does_not_lowers_them() -> None:
    before = odds_after({})
    assert (odds_after({0.5: True}) > before).all()
    assert (odds_after({0.9: False}) < before).all()
    # What is no surprise says little.
    assert odds_after({1.0: True}) == pytest.approx(before, abs=0.05)
    assert odds_after({0.05: False}) == pytest.approx(before, abs=0.05)


def test_many_find_where_the_limit_lies() -> None:
    odds = odds_after({float(kept): bool(kept > 0.72) for kept in np.linspace(0.4, 1.0, 25)})
    assert odds[60] < 0.1
    assert odds[85] > 0.9


def test_a_contradiction_leaves_odds() -> None:
    odds = odds_after({0.2: True, 0.95: False})
    assert np.isfinite(odds).all()
    assert ((odds > 0.0) & (odds < 1.0)).all()
