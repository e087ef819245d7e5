"""What is kept of a training's curve: its ends, its held-out scores, and not much more."""

from __future__ import annotations

from itertools import pairwise

from search_spaces.curve import curve_from_json
from workers.evaluation.curves import kept_curve
from workers.runtime.training_progress import POINTS, CurvePoint, with_ends_scored


def test_a_short_curve_is_kept_whole_and_rounded() -> None:
    points = (CurvePoint(0, None, 0.0, 41.23456), CurvePoint(512, 2.123456, 48_123.456, None))
    curve = kept_curve("recover()", points)
    assert curve.points == ((0, None, 0.0, 41.235), (512, 2.1235, 48_123.5, None))
    assert curve_from_json(curve.to_json()) == curve


def test_a_long_curve_keeps_its_ends_and_every_score_and_is_spread_evenly() -> None:
    scored = {0, 251, 333, 612}
    points = [CurvePoint(10 * at, 1.0, 5.0, 50.0 if at in scored else None) for at in range(613)]
    kept = [tokens // 10 for tokens, *_ in kept_curve("recover()", points).points]
    assert kept == sorted(set(kept))
    assert scored <= set(kept)
    assert POINTS <= len(kept) <= POINTS + len(scored)
    assert max(two - one for one, two in pairwise(kept)) <= 7


def test_scores_taken_apart_from_the_curve_are_put_at_its_ends() -> None:
    first, last = CurvePoint(10, 2.0, 5.0, None), CurvePoint(20, 1.0, 5.0, None)
    scored = with_ends_scored((first, last), 40.0, 50.0)
    assert scored == (CurvePoint(0, None, 0.0, 40.0), first, CurvePoint(20, 1.0, 5.0, 50.0))
    assert with_ends_scored((CurvePoint(0, None, 0.0, None), first, last), 40.0, 50.0) == scored
    assert with_ends_scored(scored, 41.0, 51.0) == scored
    assert with_ends_scored((first, last), None, None) == (first, last)
    assert with_ends_scored((), 40.0, 50.0) == ()
