"""What a person reads while a search runs: times, sizes and lines, under a clock that the test moves."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from orchestrator.number_format import spell_bytes, spell_seconds
from orchestrator.progress import display as progress_module
from orchestrator.progress.display import ProgressDisplay
from orchestrator.progress.training_lines import Lines, in_lines, training_line, training_text
from orchestrator.progress.trial_table import (
    TableRow,
    Totals,
    left_text,
    phase_left_text,
    time_left,
    trial_line,
    trial_table,
    under_way_line,
)
from search_spaces.outcome import Race
from tests.support.fakes import Clock
from workers.runtime.callbacks import Doing, at_most_every, counting
from workers.runtime.stages import Stages
from workers.runtime.training_progress import Progress
from workers.training.preparing import Preparing


def done(number: int, seconds: float, split: str = "dev") -> TableRow:
    return TableRow(number, "rtn(bits=4)", split, "done", 0.0, seconds, 50.0, 1000)


def running(number: int, began: float, split: str = "dev") -> TableRow:
    return TableRow(number, "rtn(bits=4)", split, "running", began)


def test_no_time_is_promised_before_a_trial_has_ended() -> None:
    assert time_left([], Totals(5, 0), now=10.0) is None
    assert time_left([running(0, 2.0)], Totals(5, 0), now=10.0) is None


def test_time_left_is_the_mean_for_each_trial_to_come_and_the_rest_of_those_running() -> None:
    # Trials took 10 s and 20 s: 15 s each. Three of six wait: 45 s. One began 5 s ago: 10 s more. In all 55 s.
    rows = [done(0, 10.0), done(1, 20.0), running(2, began=95.0)]
    assert time_left(rows, Totals(6, 0), now=100.0) == 55.0
    assert time_left(rows, Totals(6, 0, side_by_side=2), now=100.0) == 27.5


def test_time_left_knows_that_trials_to_come_take_longer_than_those_that_ended() -> None:
    costs = {"baseline": 1.0, "rtn(bits=4)": 2.0, "mixed(bits=3)": 10.0, "gptq(bits=4)": 3.0}
    totals = Totals(6, 0, costs=costs)
    ended = [TableRow(0, "baseline", "dev", "done", 0.0, 5.0), TableRow(1, "rtn(bits=4)", "dev", "done", 5.0, 10.0)]
    # Five seconds a unit; two of the four to come are foreseen, the others cost the mean, 4.
    assert time_left(ended, totals, now=15.0) == pytest.approx(5.0 * (10 + 3 + 4 + 4))
    mixed = TableRow(2, "mixed(bits=3)", "dev", "running", 15.0)
    assert time_left([*ended, mixed], totals, now=25.0) == pytest.approx(5.0 * (3 + 4 + 4) + 40.0)
    assert time_left([*ended, mixed], Totals(3, 0, costs=costs), now=25.0) == pytest.approx(40.0)


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
    failed = TableRow(0, "x", "dev", "failed", 0.0, 30.0)
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
    row = TableRow(3, "rtn(bits=4)", "dev", "done", 0.0, 75.0, 51.234, 2_500_000)
    assert (
        trial_line(row, 4, Totals(12, 0), 10_000_000, "about 2 min 5 s left")
        == "[4/12] rtn(bits=4): chrF 51.23  2.50 MB  4.00x  in 1 min 15 s  about 2 min 5 s left"
    )
    assert trial_line(row, 4, Totals(12, 0), None) == "[4/12] rtn(bits=4): chrF 51.23  2.50 MB  in 1 min 15 s"


def test_the_line_of_a_failure_and_of_a_held_out_trial() -> None:
    failed = TableRow(3, "rtn(bits=4)", "dev", "failed", 0.0, 5.0)
    assert (
        trial_line(failed, 4, Totals(12, 0), 10_000_000, "about 1 min 0 s left")
        == "[4/12] rtn(bits=4): failed  in 5 s  about 1 min 0 s left"
    )
    held_out = TableRow(14, "baseline", "test", "done", 0.0, 5.0, 9.5, 1000)
    assert trial_line(held_out, 1, Totals(12, 0), None) == "[held-out] baseline: chrF  9.50  1.00 kB  in 5 s"
    line = trial_line(held_out, 1, Totals(12, 0), None, "about 10 s left", 3)
    assert line == "[held-out 1/3] baseline: chrF  9.50  1.00 kB  in 5 s  about 10 s left"


def test_the_line_of_a_trial_that_a_race_ended_names_the_winner_instead_of_a_score() -> None:
    race = "dropped at 64 of 252 segments: tie with trial 1"
    row = TableRow(3, "rtn(bits=2)", "dev", "done", 0.0, 5.0, 31.0, 2_500_000, race)
    assert (
        trial_line(row, 4, Totals(12, 0), 10_000_000)
        == "[4/12] rtn(bits=2): dropped at 64 of 252 segments: tie with trial 1  2.50 MB  4.00x  in 5 s"
    )


def test_the_quality_is_called_by_its_name() -> None:
    row = TableRow(3, "rtn(bits=4)", "dev", "done", 0.0, 75.0, 81.234, 2_500_000)
    assert "COMET 81.23" in trial_line(row, 4, Totals(12, 0, quality="COMET"), None)
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
        progress = ProgressDisplay(Totals(4, 0, baseline_bytes=4000, segments=252), console, clock)
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
        "[1/4] baseline: chrF 60.00  4.00 kB  1.00x  in 10 s  at least 30 s left",
        "[2/4] rtn[bits=4]: chrF 50.00  1.00 kB  4.00x  in 20 s  about 30 s left",
        "[3/4] remove_layers(count=1): failed  in 3 s  about 11 s left",
        "[4/4] rtn[bits=2]: dropped at 64 of 252 segments: worse than trial 1 by 4.0 to 30.0  800 B  5.00x  in 1 s",
    ]


def test_a_resumed_searchs_lines_count_its_trials_and_not_the_numbers_that_held_out_ones_took() -> None:
    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(16, 12), console, Clock())
        # The first session's twelve trials, five held-out and five timed ones took the numbers to 21.
        progress.started(22, "rtn(bits=4)", "dev")
        progress.started(23, "rtn(bits=3)", "dev")
        progress.ended(23, 50.0, 1000)
        progress.started(24, "baseline", "test")
        progress.ended(24, 60.0, 4000)
        progress.ended(22, None, None)
        progress.stop()

    lines = shown(show).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "[13/16] rtn(bits=3)",
        "[held-out] baseline",
        "[14/16] rtn(bits=4)",
    ]


def test_a_trial_that_begins_again_is_timed_from_its_last_start() -> None:
    def show(console: Console) -> None:
        clock = Clock()
        progress = ProgressDisplay(Totals(1, 0), console, clock)
        progress.started(0, "baseline", "dev")
        clock.now = 100.0
        progress.started(0, "baseline", "dev")
        clock.now = 107.0
        progress.ended(0, 60.0, 4000)
        progress.stop()

    assert "in 7 s" in shown(show)


def test_in_a_terminal_the_last_table_holds_every_trial() -> None:
    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(2, 0, baseline_bytes=4000), console, Clock())
        progress.started(0, "baseline", "dev")
        progress.ended(0, 60.0, 4000)
        progress.started(1, "rtn(bits=4)", "dev")
        progress.ended(1, 50.0, 1000)
        progress.stop()

    last = shown(show, terminal=True).rsplit("of 2 trials", 1)[1]
    assert all(text in last for text in ("baseline", "60.00", "4.00 kB", "rtn(bits=4)", "50.00", "4.00x"))


def test_a_table_higher_than_the_terminal_shows_its_end_while_trials_run_and_all_of_it_at_last() -> None:
    seen: list[str] = []

    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(100, 0), console, Clock())
        for number in range(60):
            progress.started(number, f"number {number}", "dev")
            progress.ended(number, 50.0, 1000)
        progress.started(60, "the one that runs", "dev")
        while "the one that runs" not in console.file.getvalue():  # type: ignore[attr-defined]
            time.sleep(0.01)
        seen.append(console.file.getvalue().rsplit("of 100 trials", 1)[1])  # type: ignore[attr-defined]
        progress.stop()

    last = shown(show, terminal=True).rsplit("of 100 trials", 1)[1]
    assert "earlier, shown at the end" in seen[0] and "number 0 " not in seen[0]
    assert "earlier" not in last and all(f"number {number} " in last for number in range(60))


def test_in_a_terminal_the_wait_for_the_first_trial_is_said() -> None:
    def show(console: Console) -> None:
        ProgressDisplay(Totals(16, 2), console, Clock()).stop()

    assert "2 of 16 trials, the first worker is starting, 0 s so far" in shown(show, terminal=True)


def test_the_table_names_what_runs_what_failed_and_what_is_held_out() -> None:
    rows = [
        done(0, 4.0),
        TableRow(1, "bitsandbytes(format=int8)", "dev", "failed", 0.0, 2.0),
        running(2, began=3.0),
        done(3, 5.0, split="test"),
    ]
    text = shown(lambda console: console.print(trial_table(rows, Totals(4, 0), now=9.0)))
    assert "2 of 4 trials" in text
    assert [part in text for part in ("failed in 2 s", "running 6 s", "(held-out)", "in 5 s")] == [True] * 4


def test_a_held_out_trial_bears_the_number_of_its_candidate() -> None:
    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(4, 1), console, Clock(), numbers={"baseline": 0})
        progress.started(3, "rtn(bits=4)", "dev")
        progress.ended(3, 50.0, 1000)
        progress.started(16, "rtn(bits=4)", "test")
        progress.started(17, "baseline", "test")
        progress.stop()
        console.print(trial_table(progress._shown(), Totals(4, 1), 9.0))

    rows = [line.split()[1] for line in shown(show).splitlines() if "(held-out)" in line]
    assert rows == ["3", "0"]


def baseline(seconds: float) -> TableRow:
    return TableRow(0, "baseline", "dev", "done", 0.0, seconds, 60.0, 4000)


def test_what_is_left_is_no_more_than_known() -> None:
    totals = Totals(6, 0)
    assert left_text([running(0, 0.0)], totals, 5.0) == ""
    # The baseline is neither compressed nor trained.
    assert left_text([baseline(10.0)], totals, 10.0) == "at least 50 s left"
    assert left_text([baseline(10.0), done(1, 20.0)], totals, 30.0) == "about 1 min 0 s left"
    assert left_text([baseline(10.0), done(1, 20.0)], replace(totals, trains=True), 30.0) == "at least 1 min 0 s left"
    until = replace(totals, ends=50.0, follow=("timing",))
    assert left_text([baseline(10.0), done(1, 20.0)], until, 30.0) == (
        "at most 20 s left for new trials (hours), then timing"
    )
    assert left_text([baseline(10.0), done(1, 20.0)], replace(totals, ends=95.0), 30.0) == "about 1 min 0 s left"


def test_what_follows_the_search_is_not_left_out_of_what_is_left() -> None:
    totals = Totals(2, 0, follow=("held-out scoring", "timing"))
    assert left_text([baseline(10.0), running(1, 10.0)], totals, 12.0) == (
        "at least 8 s left, then held-out scoring and timing"
    )
    over = [baseline(10.0), done(1, 20.0)]
    assert left_text(over, totals, 30.0) == "held-out scoring and timing next"
    assert left_text([*over, running(2, 30.0, split="test")], totals, 31.0) == ""
    assert left_text(over, Totals(2, 0), 30.0) == ""


def test_nothing_is_promised_of_a_trial_that_is_over_its_time_but_what_its_training_says() -> None:
    rows = [baseline(10.0), done(1, 18.0), running(2, 20.0)]
    assert left_text(rows, Totals(3, 0, trains=True), 100.0) == ""
    training = {2: replace(HALFWAY, left_s=2700.0)}
    assert left_text(rows, Totals(3, 0, trains=True), 100.0, training) == "at least 45 min 0 s left"


def test_the_phases_after_the_search_have_a_time_left_of_their_own() -> None:
    rows = [done(0, 500.0), done(2, 10.0, split="test"), running(3, 10.0, split="test")]
    assert phase_left_text(rows, Totals(1, 0), "test", 5) == "about 40 s left"
    assert phase_left_text(rows, Totals(1, 0, side_by_side=2), "test", 5) == "about 20 s left"
    assert phase_left_text(rows[::2], Totals(1, 0), "test", 5) == ""
    timed = [done(4, 30.0, split="speed")]
    assert phase_left_text(timed, Totals(1, 0, side_by_side=8), "speed", 3) == "about 1 min 0 s left"
    assert phase_left_text(timed, Totals(1, 0), "speed", 1) == ""


def test_a_running_trial_says_what_it_is_at() -> None:
    rows = [done(0, 4.0), running(1, 3.0), replace(running(7, 1.0, split="test"), of=2)]
    doings = {1: Doing("translate", 64, 1252), 0: Doing("score")}
    text = shown(lambda console: console.print(trial_table(rows, Totals(4, 0), 9.0, doings, "about 8 s left")))
    assert "1 of 4 trials, about 8 s left" in text
    assert "running 6 s, translating 64 of 1,252" in text and "scoring" not in text
    assert under_way_line(rows, doings, 9.0) == (
        "trial 1 rtn(bits=4): translating 64 of 1,252, 6 s so far; trial 2 rtn(bits=4): starting, 8 s so far"
    )
    assert under_way_line(rows[:1], doings, 9.0) == ""


def test_segments_are_counted_now_and_then() -> None:
    clock = Clock()
    heard: list[Doing] = []
    tell = counting(2.0, "translate", 252, heard.append, clock)
    for now, number in ((0.0, 8), (1.9, 16), (2.0, 24), (3.0, 32), (4.5, 64)):
        clock.now = now
        tell(number)
    assert heard == [Doing("translate", number, 252) for number in (8, 24, 64)]


def test_a_stage_is_told_of_when_it_begins() -> None:
    begun: list[str] = []
    stages = Stages(begins=begun.append)
    for name in ("compress", "load", "translate"):
        with stages.stage(name):
            assert begun[-1] == stages.current == name
    assert begun == list(stages.seconds)


class Told:
    """What trials do, for a display that asks; the clock goes on by so much at each asking."""

    def __init__(self, clock: Clock, seconds: float, doings: dict[int, Doing], asked: int) -> None:
        self._clock, self._seconds, self._doings, self._left = clock, seconds, doings, asked
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self) -> dict[int, Doing]:
        if not self.begun.is_set():
            return {}
        if self._left:
            self._left -= 1
            self._clock.now += self._seconds
        else:
            self.over.set()
        return self._doings


def test_without_a_terminal_a_line_comes_within_seconds_and_then_every_half_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "ASK_SECONDS", 0.0)

    def show(console: Console) -> None:
        clock = Clock()
        told = Told(clock, 3.0, {0: Doing("load")}, 24)
        progress = ProgressDisplay(Totals(2, 0), console, clock, doings=told)
        progress.started(0, "baseline", "dev")
        told.begun.set()
        assert told.over.wait(10)
        progress.stop()

    # 72 s: at 6, 36 and 66 s.
    assert shown(show).splitlines() == [f"trial 0 baseline: loading, {passed}" for passed in (
        "6 s so far", "36 s so far", "1 min 6 s so far"
    )]  # fmt: skip


def after_the_baseline(console: Console, trials: int) -> tuple[Clock, ProgressDisplay]:
    """A search of so many trials, then timing, whose baseline took ten seconds."""
    clock = Clock()
    progress = ProgressDisplay(Totals(trials, 0, follow=("timing",)), console, clock)
    progress.started(0, "baseline", "dev")
    clock.now = 10.0
    progress.ended(0, 60.0, 4000)
    return clock, progress


def test_timing_says_beforehand_what_it_will_do_and_counts() -> None:
    def show(console: Console) -> None:
        clock, progress = after_the_baseline(console, trials=1)
        progress.started(1, "baseline", "speed", 2)
        clock.now = 40.0
        progress.timed(1, "81 tokens/s at batch 1")
        progress.started(2, "remove_layers(count=1)", "speed", 1)
        clock.now = 45.0
        progress.timed(2, "99 tokens/s at batch 1")
        progress.stop()

    assert shown(show).splitlines() == [
        "[1/1] baseline: chrF 60.00  4.00 kB  in 10 s  timing next",
        "timing 2 points, one at a time: 64 new tokens for 1, 8 and 64 segments at once, up to 4 times each",
        "[speed 1/2] baseline: 81 tokens/s at batch 1  in 30 s  about 30 s left",
        "[speed 2/2] remove_layers(count=1): 99 tokens/s at batch 1  in 5 s",
    ]


def test_what_is_timed_for_an_objective_comes_before_the_search_goes_on() -> None:
    def show(console: Console) -> None:
        clock, progress = after_the_baseline(console, trials=3)
        progress.started(1, "baseline", "speed", 1)
        clock.now = 20.0
        progress.timed(1, "81 tokens/s at batch 1")
        progress.started(2, "rtn(bits=4)", "dev")
        clock.now = 30.0
        progress.ended(2, 50.0, 1000)
        progress.stop()

    assert shown(show).splitlines() == [
        "[1/3] baseline: chrF 60.00  4.00 kB  in 10 s  at least 20 s left, then timing",
        "timing 1 point, one at a time: 64 new tokens for 1, 8 and 64 segments at once, up to 4 times each",
        "[speed 1/1] baseline: 81 tokens/s at batch 1  in 10 s",
        "[2/3] rtn(bits=4): chrF 50.00  1.00 kB  in 10 s  about 10 s left, then timing",
    ]


HALFWAY = Progress("recover", 340_000, 1_000_000, 48_100.4, 1.204, 61.23, 200.0)


def test_the_line_of_a_training() -> None:
    assert training_line(7, HALFWAY) == (
        "trial 7 recover 34 % · 1.20 nats · 48,100 tokens/s · validation chrF 61.2 · 3 min 20 s left"
    )
    unscored = replace(HALFWAY, name="distill", tokens=1_000_300, chrf=None, left_s=0.0)
    assert training_text(unscored) == "distill 100 % · 1.20 nats · 48,100 tokens/s · 0 s left"
    assert training_text(replace(unscored, left_s=None)) == "distill 100 % · 1.20 nats · 48,100 tokens/s"


def test_the_line_of_what_comes_before_a_training() -> None:
    filling = replace(HALFWAY, loss=0.0, chrf=None, doing="teacher's cache")
    assert training_line(7, filling) == "trial 7 recover: teacher's cache 34 % · 48,100 tokens/s · 3 min 20 s left"
    begun = replace(filling, tokens=0, tokens_s=0.0, left_s=None, doing="teacher's translations")
    assert training_text(begun) == "recover: teacher's translations 0 %"


def test_what_comes_before_a_training_is_told_about_once_a_second_and_its_time_left_once_measured() -> None:
    clock = Clock()
    told: list[Progress] = []
    preparing = Preparing("distill", "teacher's cache", told.append, clock)
    for now, done in ((0.0, 0), (30.0, 100), (30.5, 150), (31.0, 200), (40.0, 1100), (50.0, 2000), (50.1, 2100)):
        clock.now = now
        preparing(done, 2100)
    # The first hundred took loading the model.
    assert [(one.tokens, one.tokens_s, one.left_s) for one in told] == [
        (0, 0.0, None), (100, 0.0, None), (200, 100.0, None), (1100, 100.0, 10.0), (2000, 95.0, 100 / 95),
        (2100, pytest.approx(2000 / 20.1), 0.0),
    ]  # fmt: skip
    assert {(one.name, one.of, one.doing) for one in told} == {("distill", 2100, "teacher's cache")}


def test_a_training_is_told_of_now_and_then_and_at_its_end() -> None:
    clock = Clock()
    heard: list[int] = []
    tell = at_most_every(2.0, lambda progress: heard.append(progress.tokens), clock)
    for now, tokens in ((0.0, 1), (1.0, 2), (1.9, 3), (2.0, 4), (3.0, 5), (3.5, 100), (3.6, 7), (5.5, 8)):
        clock.now = now
        tell(replace(HALFWAY, tokens=tokens, of=100))
    assert heard == [1, 4, 100, 8]


def test_one_candidate_trains_in_lines() -> None:
    said: list[str] = []
    report = in_lines(said.append)
    for tokens in (100_000, 200_000, 1_000_000):
        report(replace(HALFWAY, tokens=tokens))
    assert [line.split(" ·")[0] for line in said] == ["recover 10 %", "recover 100 %"]


def test_each_training_has_a_line_at_most_every_half_minute_and_none_while_it_stands_still() -> None:
    lines = Lines()
    further = replace(HALFWAY, tokens=500_000)
    assert lines.due({7: HALFWAY}, 0.0) == [training_line(7, HALFWAY)]
    assert lines.due({7: further}, 29.0) == []
    assert lines.due({7: further, 8: HALFWAY}, 30.0) == [training_line(7, further), training_line(8, HALFWAY)]
    assert lines.due({7: further, 8: further}, 59.0) == []
    assert lines.due({7: further, 8: further}, 61.0) == [training_line(8, further)]


class Asked:
    """What trains, for a display that asks; `wait` until it has asked so often."""

    def __init__(self, *answers: dict[int, Progress]) -> None:
        self._answers = answers
        self._asked = threading.Semaphore(0)
        self.count = 0

    def __call__(self) -> dict[int, Progress]:
        answer = self._answers[min(self.count, len(self._answers) - 1)]
        self.count += 1
        self._asked.release()
        return answer

    def wait(self) -> None:
        assert self._asked.acquire(timeout=10)


def test_without_a_terminal_only_trials_that_run_and_train_on_have_a_line() -> None:
    over = replace(HALFWAY, tokens=1_000_000)
    asked = Asked({7: HALFWAY, 8: HALFWAY, 9: over})

    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(9, 7), console, Clock(), asked)
        progress.started(7, "recover()", "dev")
        asked.wait()
        progress.started(9, "finetune()", "dev")
        progress.ended(9, None, None)
        progress.stop()

    assert shown(show).splitlines() == [
        training_line(7, HALFWAY),
        "[8/9] finetune(): failed  in 0 s  about 3 min 20 s left",
    ]
    assert asked.count == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_each_warning_of_trials_is_said_once_and_the_last_ones_at_the_end(terminal: bool) -> None:
    def show(console: Console) -> None:
        clock = Clock()
        progress = ProgressDisplay(Totals(9, 7), console, clock, warnings=lambda: ["slow: [no] kernel"])
        progress.started(7, "recover()", "dev")
        clock.now = 60.0
        progress.ended(7, None, None)
        progress.warned(["slow: [no] kernel", "halved"])
        progress.stop()

    text = shown(show, terminal)
    assert text.count("warning: slow: [no] kernel\n") == 1
    assert text.count("warning: halved\n") == 1
    assert text.index("slow") < text.index("halved")


def test_what_a_trial_was_warned_of_stands_before_the_line_of_its_end() -> None:
    """However short a while ago it was asked for: this clock stands."""
    answers: list[list[str]] = [["slow"], []]

    def show(console: Console) -> None:
        progress = ProgressDisplay(Totals(9, 0), console, Clock(), warnings=lambda: answers.pop())
        progress.started(7, "recover()", "dev")
        progress.ended(7, 50.0, 1000)
        progress.stop()

    text = shown(show, terminal=False)
    assert text.index("warning: slow\n") < text.index("[1/9]")


def test_in_a_terminal_trainings_stand_below_the_table_until_their_trial_ends() -> None:
    def last(*also: Callable[[ProgressDisplay], None]) -> str:
        asked = Asked({7: HALFWAY})

        def show(console: Console) -> None:
            progress = ProgressDisplay(Totals(9, 7), console, Clock(), asked)
            progress.started(7, "recover()", "dev")
            for do in also:
                do(progress)
            asked.wait()
            progress.stop()

        return shown(show, terminal=True).rsplit("of 9 trials", 1)[1]

    assert training_line(7, HALFWAY) in last()
    assert "nats" not in last(lambda progress: progress.ended(7, 50.0, 1000))
