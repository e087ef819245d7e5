"""What a person reads while a search runs: times, sizes and lines, under a clock that the test moves."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from orchestrator.progress import (
    Progress,
    Row,
    Totals,
    spell_bytes,
    spell_seconds,
    time_left,
    trial_line,
    trial_table,
)
from search_spaces.outcome import Race
from tests.fakes import Clock


def done(number: int, seconds: float, split: str = "dev") -> Row:
    return Row(number, "rtn(bits=4)", split, "done", 0.0, seconds, 50.0, 1000)


def running(number: int, began: float, split: str = "dev") -> Row:
    return Row(number, "rtn(bits=4)", split, "running", began)


def test_no_time_is_promised_before_a_trial_has_ended() -> None:
    assert time_left([], Totals(5, 0), now=10.0) is None
    assert time_left([running(0, 2.0)], Totals(5, 0), now=10.0) is None


def test_time_left_is_the_mean_for_each_trial_to_come_and_the_rest_of_those_running() -> None:
    # Trials took 10 s and 20 s: 15 s each. Three of six wait: 45 s. One began 5 s ago: 10 s more. In all 55 s.
    rows = [done(0, 10.0), done(1, 20.0), running(2, began=95.0)]
    assert time_left(rows, Totals(6, 0), now=100.0) == 55.0
    assert time_left(rows, Totals(6, 0, side_by_side=2), now=100.0) == 27.5


def test_time_left_counts_what_an_earlier_session_did_as_done() -> None:
    # Four known, two ended here, four of ten to come at 15 s.
    assert time_left([done(4, 10.0), done(5, 20.0)], Totals(10, 4), now=100.0) == 60.0


def test_a_trial_over_its_time_does_not_take_time_from_the_others() -> None:
    # The running one has already taken 50 s of a mean of 10 s; only the two to come count.
    assert time_left([done(0, 10.0), running(1, began=50.0)], Totals(4, 0), now=100.0) == 20.0


def test_held_out_trials_are_not_taken_for_the_searchs() -> None:
    rows = [done(0, 10.0), done(1, 10.0), done(2, 1000.0, split="test"), running(3, 0.0, split="test")]
    assert time_left(rows, Totals(2, 0), now=100.0) == 0.0


def test_a_failure_takes_time_like_any_trial() -> None:
    failed = Row(0, "x", "dev", "failed", 0.0, 30.0)
    assert time_left([failed], Totals(3, 0, baseline_bytes=4000), now=30.0) == 60.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_seconds_are_spelt_in_the_unit_people_use(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (10_600_000, "10.60 MB"),
        (14_500_000_000, "14.50 GB"),
        (1_500_000_000_000, "1500.00 GB"),
    ],
)
def test_bytes_are_spelt_in_decimal_units(size: int, text: str) -> None:
    assert spell_bytes(size) == text


def test_the_line_of_a_trial_that_ended_well() -> None:
    row = Row(3, "rtn(bits=4)", "dev", "done", 0.0, 75.0, 51.234, 2_500_000)
    assert (
        trial_line(row, Totals(12, 0), 10_000_000, 125.0)
        == "[4/12] rtn(bits=4): chrF 51.23  2.50 MB  4.00x  in 1 min 15 s  about 2 min 5 s left"
    )
    assert trial_line(row, Totals(12, 0), None, None) == "[4/12] rtn(bits=4): chrF 51.23  2.50 MB  in 1 min 15 s"


def test_the_line_of_a_failure_and_of_a_held_out_trial() -> None:
    failed = Row(3, "rtn(bits=4)", "dev", "failed", 0.0, 5.0)
    assert (
        trial_line(failed, Totals(12, 0), 10_000_000, 60.0)
        == "[4/12] rtn(bits=4): failed  in 5 s  about 1 min 0 s left"
    )
    held_out = Row(14, "baseline", "test", "done", 0.0, 5.0, 9.5, 1000)
    assert trial_line(held_out, Totals(12, 0), None, 60.0) == "[held-out] baseline: chrF  9.50  1.00 kB  in 5 s"


def test_the_line_of_a_trial_that_a_race_ended_names_the_winner_instead_of_a_score() -> None:
    race = "dropped at 64 of 252 segments: tie with trial 1"
    row = Row(3, "rtn(bits=2)", "dev", "done", 0.0, 5.0, 31.0, 2_500_000, race)
    assert (
        trial_line(row, Totals(12, 0), 10_000_000, None)
        == "[4/12] rtn(bits=2): dropped at 64 of 252 segments: tie with trial 1  2.50 MB  4.00x  in 5 s"
    )


def test_the_quality_is_called_by_its_name() -> None:
    row = Row(3, "rtn(bits=4)", "dev", "done", 0.0, 75.0, 81.234, 2_500_000)
    assert "COMET 81.23" in trial_line(row, Totals(12, 0, quality="COMET"), None, None)
    text = shown(lambda console: console.print(trial_table([row], Totals(12, 0, quality="COMET"), now=9.0)))
    assert "COMET" in text and "chrF" not in text


def shown(show: Callable[[Console], None], terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)
    show(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_without_a_terminal_each_end_is_a_line_under_the_given_clock() -> None:
    def show(console: Console) -> None:
        clock = Clock()
        progress = Progress(Totals(4, 0, baseline_bytes=4000, segments=252), console, clock)
        progress.started(0, "baseline", "dev")
        clock.now = 10.0
        progress.ended(0, 60.0, 4000)
        progress.started(1, "rtn[bits=4]", "dev")
        clock.now = 30.0
        progress.ended(1, 50.0, 1000)
        progress.started(2, "remove_layers(count=1)", "dev")
        clock.now = 33.0
        progress.ended(2, None, None)
        progress.started(3, "rtn[bits=2]", "dev")
        clock.now = 34.0
        progress.ended(3, 20.0, 800, Race("dominated", 1, 64, -30.0, -4.0, 20.0))
        progress.ended(99, 1.0, 1)
        progress.stop()

    assert shown(show).splitlines() == [
        "[1/4] baseline: chrF 60.00  4.00 kB  1.00x  in 10 s  about 30 s left",
        "[2/4] rtn[bits=4]: chrF 50.00  1.00 kB  4.00x  in 20 s  about 30 s left",
        "[3/4] remove_layers(count=1): failed  in 3 s  about 11 s left",
        "[4/4] rtn[bits=2]: dropped at 64 of 252 segments: worse than trial 1 by 4.0 to 30.0  800 B  5.00x  in 1 s  "
        "about 0 s left",
    ]


def test_a_trial_that_begins_again_is_timed_from_its_last_start() -> None:
    def show(console: Console) -> None:
        clock = Clock()
        progress = Progress(Totals(1, 0), console, clock)
        progress.started(0, "baseline", "dev")
        clock.now = 100.0
        progress.started(0, "baseline", "dev")
        clock.now = 107.0
        progress.ended(0, 60.0, 4000)
        progress.stop()

    assert "in 7 s" in shown(show)


def test_in_a_terminal_the_last_table_holds_every_trial() -> None:
    def show(console: Console) -> None:
        progress = Progress(Totals(2, 0, baseline_bytes=4000), console, Clock())
        progress.started(0, "baseline", "dev")
        progress.ended(0, 60.0, 4000)
        progress.started(1, "rtn(bits=4)", "dev")
        progress.ended(1, 50.0, 1000)
        progress.stop()

    last = shown(show, terminal=True).rsplit("of 2 trials", 1)[1]
    assert all(text in last for text in ("baseline", "60.00", "4.00 kB", "rtn(bits=4)", "50.00", "4.00x"))


def test_the_table_names_what_runs_what_failed_and_what_is_held_out() -> None:
    rows = [
        done(0, 4.0),
        Row(1, "bitsandbytes(format=int8)", "dev", "failed", 0.0, 2.0),
        running(2, began=3.0),
        done(3, 5.0, split="test"),
    ]
    text = shown(lambda console: console.print(trial_table(rows, Totals(4, 0), now=9.0)))
    assert "2 of 4 trials, about 3 s left" in text
    assert [part in text for part in ("failed in 2 s", "running 6 s", "(held-out)", "in 5 s")] == [True] * 4
