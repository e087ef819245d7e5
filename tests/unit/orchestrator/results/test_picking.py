"""Every form of a pick on points of known quality and bytes, and what is said where there is no such point."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ledger.records import TrialRecord
from orchestrator.results.picking import WORDS, above_chord, aliases, described, judged, kept_folder, picked
from orchestrator.results.points import Point, Results
from orchestrator.statistics.frontier import Objectives
from search_spaces.candidate import Candidate
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import RTN
from search_spaces.outcome import Failure
from tests.support.examples import BASE, measurement

BASELINE = 10_000_000


def point(number: int, quality: float, size: int, held_out: float | None = None, kept_off: str = "") -> Point:
    steps = (RTN(bits=4),) if number else ()
    found = measurement(quality, size)
    record = TrialRecord(
        number, Candidate(BASE, steps), "dev", found, 1, {}, size, "2026-01-01", "2026-01-02", "host:1", None
    )
    made = Point(record, found, "chrf", BASELINE / size, None, False, (kept_off,) if kept_off else ())
    if held_out is None:
        return made
    return replace(made, held_out=replace(made, measurement=measurement(held_out, size)))


# Sizes halve from trial to trial; quality falls slowly, then fast: trial 3 is the knee.
CURVE = (
    point(0, 60.0, BASELINE),
    point(1, 60.2, 8_000_000),
    point(2, 59.6, 4_000_000),
    point(3, 59.0, 2_000_000),
    point(4, 50.0, 1_000_000),
    point(5, 58.0, 3_000_000),
    point(6, 59.9, 500_000, kept_off="repeats itself"),
)
DEV = Results(CURVE, ())


@pytest.mark.parametrize(
    ("pick", "number"),
    [
        ("best-quality", 1),
        ("knee", 3),
        ("smallest", 4),
        ("smallest-at-99", 2),
        ("99%", 2),
        ("98.3 %", 3),
        ("100%", 1),
        ("<=2GB", 1),
        ("<=4MB", 2),
        ("<= 3.5 mb", 3),
        ("<=1000000", 4),
        ("5", 5),
        ("6", 6),
        ("0", 0),
        (" knee ", 3),
    ],
)
def test_a_pick_is_its_point(pick: str, number: int) -> None:
    assert picked(DEV, pick).record.number == number


def test_the_order_of_the_points_changes_no_pick() -> None:
    backwards = Results(tuple(reversed(CURVE)), ())
    for pick in (*WORDS, "98%", "<=3MB"):
        assert picked(backwards, pick).record.number == picked(DEV, pick).record.number


def test_held_out_data_judge_where_they_scored_the_baseline() -> None:
    # On dev trial 2 keeps 99 %, on held-out data trial 3 does too; trial 4 is best on dev and has no held-out score.
    scored = Results(
        (
            point(0, 60.0, BASELINE, 55.0),
            point(2, 59.6, 4_000_000, 54.8),
            point(3, 58.0, 2_000_000, 54.9),
            point(4, 61.0, 1_000_000),
        ),
        (),
    )
    assert picked(scored, "99%").record.number == picked(scored, "best-quality").record.number == 3
    assert judged(scored).split == "the held-out data"
    # Qualities of two splits are not compared: without the baseline's, dev judges.
    halved = Results((point(0, 60.0, BASELINE), *scored.points[1:]), ())
    assert picked(halved, "best-quality").record.number == 4
    assert judged(halved).split == "dev"


def test_the_knee_is_farthest_above_the_chord_in_log_bytes() -> None:
    front = [Objectives(10.0, 1000), Objectives(18.0, 2000), Objectives(19.0, 4000), Objectives(20.0, 16_000)]
    # The chord rises by 10 over four doublings.
    assert above_chord(front) == pytest.approx([0.0, 8.0 - 2.5, 9.0 - 5.0, 0.0])
    points = tuple(point(number, *one) for number, one in enumerate(front, start=1))
    assert picked(Results(points, ()), "knee").record.number == 2


def test_without_a_bend_the_knee_is_the_end_of_higher_quality() -> None:
    sagging = (point(1, 10.0, 1000), point(2, 10.5, 2000), point(3, 20.0, 4000))
    assert picked(Results(sagging, ()), "knee").record.number == 3
    assert picked(Results(sagging[:1], ()), "knee").record.number == 1
    # The uncompressed model is an end of the chord, and never picked.
    assert picked(Results((point(0, 60.0, BASELINE), point(7, 50.0, 1000)), ()), "knee").record.number == 7


@pytest.mark.parametrize("pick", ["smallish", "", "%", "99", "-3", "0%", "<=", "<=2 parsecs", ">=2GB", "knee,smallest"])
def test_what_is_no_pick_is_refused_with_what_there_is(pick: str) -> None:
    with pytest.raises(StudyError) as error:
        picked(DEV, pick)
    assert "trials 1, 2, 3, 4, 5 and 6" in str(error.value)
    if pick != "99":
        assert all(word in str(error.value) for word in (*WORDS, "99%", "<=2GB"))


def test_each_word_is_an_alias_of_the_trial_that_it_picks_where_there_is_one() -> None:
    assert aliases(DEV) == {word: picked(DEV, word).record.number for word in WORDS}
    poor = Results(tuple(one for one in CURVE if one.record.number in (0, 3, 4)), ())
    assert aliases(poor) == {"best-quality": 3, "knee": 3, "smallest": 4}
    assert aliases(Results(CURVE[1:], ())).keys() == WORDS.keys() - {"smallest-at-99"}
    assert aliases(Results(CURVE[:1], ())) == {}


def test_where_no_point_is_good_or_small_enough_the_nearest_is_named() -> None:
    with pytest.raises(StudyError, match=r"kept 101 % of the baseline's chrF on dev; trial 1 kept most, 100.3 %"):
        picked(DEV, "101%")
    with pytest.raises(StudyError, match=r"at most 600.00 kB; the smallest is trial 4, with 1.00 MB"):
        picked(DEV, "<=600kB")


def test_a_study_without_a_baseline_or_a_compressed_point_says_so() -> None:
    with pytest.raises(StudyError, match="has no score"):
        picked(Results(CURVE[1:], ()), "99%")
    with pytest.raises(StudyError, match="no compressed model may stand"):
        picked(Results((CURVE[0], CURVE[6]), ()), "smallest")


def test_a_trial_that_failed_says_how_it_ended() -> None:
    failed = replace(CURVE[1].record, number=9)
    with pytest.raises(StudyError, match="trial 9 failed, out of memory"):
        picked(Results(CURVE, ((failed, Failure("out_of_memory", "load", "too large")),)), "9")


def test_the_folder_of_a_pick_or_which_models_were_kept() -> None:
    kept = {2: Path("two"), 3: Path("three")}
    assert kept_folder(picked(DEV, "knee"), kept) == Path("three")
    with pytest.raises(StudyError, match=r"trial 4 \(rtn.*was not kept, those of trials 2 and 3 were"):
        kept_folder(picked(DEV, "smallest"), kept)
    with pytest.raises(StudyError, match="none was"):
        kept_folder(picked(DEV, "smallest"), {})
    with pytest.raises(StudyError, match=r"trial 0 is the uncompressed model.* it is example/model"):
        kept_folder(picked(DEV, "0"), kept)


def test_a_point_is_described_by_its_trial_steps_and_size() -> None:
    assert described(picked(DEV, "2")).endswith(", 4.00 MB, 2.50× smaller")
    alone = replace(CURVE[2], ratio=math.nan)
    assert described(alone).endswith("4.00 MB")
