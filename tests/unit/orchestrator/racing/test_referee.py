"""Who runs against whom, by what the ledger holds: whole, sane trials of no more bytes, the same at every look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from orchestrator.racing.referee import Referee
from search_spaces.methods.quantizers import RTN
from search_spaces.outcome import Measurement, Race
from tests.support.examples import measurement, segment, trial
from workers.scoring.rungs import race_order

# 40 documents of two segments each; candidates differ by whole points with a little noise.
SEGMENTS = [segment(id=str(at), doc=f"doc{at // 2}") for at in range(80)]
ORDER = race_order(SEGMENTS, seed=0)
SANE, INSANE = {"empty": 0.0}, {"empty": 0.5}
RTN = {bits: (RTN(bits=bits),) for bits in (2, 3, 4, 8)}


def scores(quality: float) -> list[float]:
    return [quality + (at * 7 % 5 - 2) / 4 for at in range(len(SEGMENTS))]


def lines(quality: float) -> list[dict[str, Any]]:
    return [
        {"id": one.id, "text": "x", "tokens": 1, "truncated": False, "scores": {"chrf": score}}
        for one, score in zip(SEGMENTS, scores(quality), strict=True)
    ]


def whole(quality: float, size: int, **fields: Any) -> Measurement:
    return replace(measurement(quality, size), segments=len(SEGMENTS), **{"sanity": SANE, **fields})


def referee(*points: tuple[int, Measurement], baseline: Measurement | None = None, floor: float = 0.0) -> Referee:
    made = Referee(SEGMENTS, "chrf", floor)
    base = baseline or whole(60.0, 10_000)
    made.learn(0, True, base, lines(base.overall("chrf")))
    for number, point in points:
        made.learn(number, False, point, lines(point.overall("chrf")))
    return made


def look(made: Referee, quality: float, size: int, number: int = 9, segments: int = 40) -> Race | None:
    at = ORDER[:segments]
    return made.judge(number, at, [scores(quality)[position] for position in at], size)


def test_a_candidate_far_below_a_point_of_no_more_bytes_is_dropped_and_its_quality_projected() -> None:
    race = look(referee((3, whole(50.0, 500))), quality=30.0, size=500)
    assert race is not None
    assert (race.verdict, race.by, race.segments) == ("dominated", 3, 40)
    assert race.low <= -20.0 <= race.high < 0.0
    assert race.projected == pytest.approx(30.0)


def test_a_candidate_that_is_the_same_as_a_smaller_one_is_a_tie() -> None:
    # Scores may lie 100 points apart, so that it takes this many documents to be sure of 0.3.
    many = [segment(id=str(at), doc=str(at)) for at in range(2000)]
    made, base = Referee(many, "chrf"), whole(60.0, 10_000)
    rows = [{"id": one.id, "scores": {"chrf": 40.0 + at % 21}} for at, one in enumerate(many)]
    made.learn(0, True, base, rows)
    made.learn(3, False, whole(50.0, 500), rows)
    at = race_order(many, seed=0)[:1800]
    race = made.judge(9, at, [rows[position]["scores"]["chrf"] for position in at], 600)
    assert race is not None
    assert (race.verdict, race.by, race.segments) == ("tie", 3, 1800)
    assert -0.3 <= race.low <= 0.0 <= race.high <= 0.3
    assert race.projected == pytest.approx(50.0)


def test_a_candidate_below_the_floor_is_dropped_though_nothing_measured_is_as_small() -> None:
    race = look(referee((3, whole(50.0, 500)), floor=0.5), quality=10.0, size=1)
    assert race is not None
    assert (race.verdict, race.by, race.segments, race.floor) == ("below the floor", 0, 40, 0.5)
    assert race.low <= -20.0 <= race.high < 0.0
    assert race.projected == pytest.approx(10.0, abs=0.1)
    assert look(referee((3, whole(50.0, 500)), floor=0.0), quality=10.0, size=1) is None
    assert look(referee((3, whole(50.0, 500)), floor=0.5), quality=32.0, size=1) is None


def test_the_baseline_and_its_floor_have_one_number_and_are_told_apart() -> None:
    # Of more bytes than the baseline, so that it is among the points to beat.
    race = look(referee(floor=0.5), quality=10.0, size=20_000)
    assert race is not None
    assert (race.verdict, race.by, race.floor) == ("dominated", 0, 0.0)
    assert race.projected == pytest.approx(10.0)


def test_a_point_below_the_floor_is_nobodys_comparator() -> None:
    dropped = look(referee((3, whole(28.0, 500))), quality=5.0, size=500)
    assert dropped is not None and (dropped.verdict, dropped.by) == ("dominated", 3)
    dropped = look(referee((3, whole(28.0, 500)), floor=0.5), quality=5.0, size=500)
    assert dropped is not None and (dropped.verdict, dropped.by) == ("below the floor", 0)


def test_a_study_with_a_third_objective_drops_what_is_below_the_floor_alone() -> None:
    made = Referee(SEGMENTS, "chrf", 0.5, by_floor_alone=True)
    made.learn(0, True, whole(60.0, 10_000), lines(60.0))
    made.learn(3, False, whole(50.0, 500), lines(50.0))
    # It may be faster than what is smaller and better.
    assert look(made, quality=38.0, size=500) is None
    dropped = look(made, quality=5.0, size=500, number=10)
    assert dropped is not None and (dropped.verdict, dropped.by) == ("below the floor", 0)


def test_a_baseline_without_quality_has_no_floor() -> None:
    made = Referee(SEGMENTS, "chrf", 0.5)
    made.learn(0, True, whole(-2.0, 10_000), lines(60.0))
    assert look(made, quality=1.0, size=500) is None


def test_a_point_of_more_bytes_decides_nothing() -> None:
    assert look(referee((3, whole(50.0, 500))), quality=30.0, size=499) is None


def test_a_raced_an_insane_and_an_unscored_point_decide_nothing() -> None:
    raced = whole(50.0, 500, race=Race("tie", 0, 80, -0.1, 0.1, 50.0))
    made = referee((3, raced), (4, whole(50.0, 500, sanity=INSANE)))
    old = [{key: value for key, value in line.items() if key != "scores"} for line in lines(50.0)]
    made.learn(5, False, whole(50.0, 500), old)
    made.learn(6, False, whole(50.0, 500), lines(50.0)[:40])
    assert look(made, quality=30.0, size=500) is None


def test_what_fails_as_the_baseline_does_is_normal() -> None:
    made = referee((3, whole(50.0, 500, sanity=INSANE)), baseline=whole(60.0, 10_000, sanity=INSANE))
    assert look(made, quality=30.0, size=500) is not None


def test_nothing_is_judged_before_the_baseline_says_what_is_normal() -> None:
    made = Referee(SEGMENTS, "chrf")
    made.learn(3, False, whole(50.0, 500), lines(50.0))
    assert look(made, quality=30.0, size=500) is None


def test_a_race_has_the_same_field_at_every_look_and_a_new_one_when_it_begins_anew() -> None:
    made = referee()
    made.begin(9)
    assert look(made, quality=30.0, size=500) is None
    made.learn(3, False, whole(50.0, 500), lines(50.0))
    assert look(made, quality=30.0, size=500, segments=60) is None
    made.begin(9)
    assert look(made, quality=30.0, size=500) is not None


def ledger(folder: Path, made: Referee, kept: Sequence[tuple[int, int, Measurement, float]] = ()) -> LedgerWriter:
    if not folder.exists():
        create_ledger(folder, {"spec": {}})
    writer = LedgerWriter(str(folder), lambda: made)
    for number, bits, outcome, quality in kept:
        writer.append(trial(outcome, RTN[bits] if bits < 16 else (), number=number), lines(quality))
    return writer


def ask(writer: LedgerWriter, quality: float, split: str = "dev") -> Race | None:
    record = trial(measurement(), RTN[2], number=9, split=split)
    writer.begin(record)
    return writer.judge(record, ORDER[:40], [scores(quality)[position] for position in ORDER[:40]], 500)


def test_the_ledgers_writer_judges_by_what_it_has_kept_and_a_new_one_by_the_same(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ask(ledger(run, Referee(SEGMENTS, "chrf")), 30.0) is None
    kept = [(0, 16, whole(60.0, 10_000), 60.0), (3, 4, whole(50.0, 500), 50.0)]
    first = ask(ledger(run, Referee(SEGMENTS, "chrf"), kept), 30.0)
    assert first is not None and first.by == 3
    assert ask(ledger(run, Referee(SEGMENTS, "chrf")), 30.0) == first
    assert ask(LedgerWriter(str(run)), 30.0) is None


def test_a_resumed_search_has_the_floor_that_it_had(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = ask(ledger(run, Referee(SEGMENTS, "chrf", 0.5), [(0, 16, whole(60.0, 10_000), 60.0)]), 10.0)
    assert first is not None and first.verdict == "below the floor"
    assert ask(ledger(run, Referee(SEGMENTS, "chrf", 0.5)), 10.0) == first


def test_held_out_trials_teach_the_referee_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    writer = ledger(run, Referee(SEGMENTS, "chrf"), [(0, 16, whole(60.0, 10_000), 60.0)])
    writer.append(trial(whole(50.0, 500), RTN[4], number=3, split="test"), lines(50.0))
    assert ask(writer, 30.0) is None


def test_a_resumed_search_goes_on_where_a_hypotheses_file_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ledger(run, Referee(SEGMENTS, "chrf"), [(0, 16, whole(60.0, 10_000), 60.0), (3, 4, whole(50.0, 500), 50.0)])
    for record in read_ledger(run).trials:
        assert record.hypotheses is not None
        (run / record.hypotheses).unlink()
    assert ask(ledger(run, Referee(SEGMENTS, "chrf")), 30.0) is None
