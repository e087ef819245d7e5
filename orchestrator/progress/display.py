"""What a person watches while a search runs: a trial table that updates, and the time left.

In a terminal the table redraws itself, with a line below for each training under way; elsewhere each trial that ends
prints a line, one that trains a line now and then, and what runs for long says what it is at. What a trial is warned of
is said when it comes, and once.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.progress.training_lines import LINE_SECONDS, Lines, Trainings, training_line
from orchestrator.progress.trial_table import (
    PHASES,
    State,
    TableRow,
    Totals,
    ended_trials,
    left_text,
    phase_left_text,
    starting_text,
    timing_line,
    trial_line,
    trial_table,
    under_way_line,
)
from orchestrator.results.standing import race_text
from search_spaces.outcome import Race
from workers.plan.evaluation_plan import PROFILE_SPLIT, RACED_SPLIT, SPEED_SPLIT
from workers.runtime.callbacks import Doing

REDRAW_SECONDS = 0.5
# How often it is asked what trials do, and what was warned of.
ASK_SECONDS = 2.0
# On a terminal that can't redraw, after so long the first line says what is under way, should no other have come.
FIRST_SECONDS = 5.0


class ProgressDisplay:
    """Gathers what the trials say and shows it, from a thread of its own: telling it can't raise or wait.

    trainings, doings: asked from that thread what trains now, and what each trial does; None where nobody knows.
    warnings: asked what trials were warned of since the search began. numbers: those of the trials known from before,
    by their labels.
    """

    def __init__(
        self,
        totals: Totals,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        trainings: Callable[[], Trainings] | None = None,
        warnings: Callable[[], Sequence[str]] | None = None,
        numbers: Mapping[str, int] | None = None,
        doings: Callable[[], Mapping[int, Doing]] | None = None,
    ) -> None:
        self._totals = totals
        self._console = console
        self._clock = clock
        self._began = clock()
        self._ask = trainings
        self._ask_doings = doings
        self._ask_warnings = warnings
        self._warned: set[str] = set()
        self._asked_at = -math.inf
        self._trainings: Trainings = {}
        self._doings: Mapping[int, Doing] = {}
        self._lines = Lines()
        self._said_at = clock() + FIRST_SECONDS - LINE_SECONDS
        self._whole_splits: dict[str, int] = {}
        self._events: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._rows: dict[int, TableRow] = {}
        self._numbers = dict(numbers or {})
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def started(self, number: int, label: str, split: str, due: int = 0, short: str = "") -> None:
        """A trial began, or began again after its worker was lost. due: how many of its split have not ended, with it,
        where it is not the search's own. short: what is shown of it in place of its label."""
        self._events.put(("started", (TableRow(number, label, split, "running", self._clock(), short=short), due)))

    def ended(self, number: int, quality: float | None, size: int | None, race: Race | None = None) -> None:
        """A trial ended; quality and size are None for a failure, and race None unless a race ended it early."""
        said = None if race is None else race_text(race, self._totals.segments)
        self._events.put(("ended", (number, quality, size, said, self._clock())))

    def timed(self, number: int, speed: str | None) -> None:
        """A frontier point was timed; speed: what came out, in words."""
        self._events.put(("timed", (number, speed, self._clock())))

    def warned(self, texts: Sequence[str]) -> None:
        """Trials were warned of this; what was said before is not said again."""
        self._events.put(("warned", texts))

    def stop(self) -> None:
        """Show the last state and end."""
        self._events.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        if not self._console.is_terminal:
            self._gather(say=True, seconds=ASK_SECONDS if self._asks else None, show=self._say_under_way)
            return
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            self._gather(say=False, seconds=REDRAW_SECONDS, show=lambda: live.update(self._fitting(), refresh=True))
            # The last one stays, and scrolls where it is higher than the terminal.
            live.update(self._whole())

    def _gather(self, say: bool, seconds: float | None, show: Callable[[], None]) -> None:
        """Take each event, and show the state after it and after this many seconds without one, until the last."""
        over = False
        while not over:
            try:
                event = self._events.get(timeout=seconds)
                over = event is None
                if event is not None:
                    self._take(event, say)
            except queue.Empty:
                pass
            self._ask_for_news()
            show()

    @property
    def _asks(self) -> bool:
        return any(ask is not None for ask in (self._ask, self._ask_doings, self._ask_warnings))

    def _ask_for_news(self) -> None:
        now = self._clock()
        if not self._asks or now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        if self._ask is not None:
            self._trainings = self._ask()
        if self._ask_doings is not None:
            self._doings = self._ask_doings()
        if self._ask_warnings is not None:
            self._say_warnings(self._ask_warnings())

    def _say_warnings(self, texts: Sequence[str]) -> None:
        for text in texts:
            if text not in self._warned:
                self._warned.add(text)
                self._say(f"warning: {text}")

    def _training(self) -> Trainings:
        """Of the trials that run, those whose training is not over."""
        running = {row.number for row in self._rows.values() if row.state == "running"}
        return {
            number: one for number, one in sorted(self._trainings.items()) if number in running and one.tokens < one.of
        }

    def _left(self, now: float) -> str:
        """What is left in words: of the search, or of what follows it once that has begun."""
        rows = self._shown()
        for split, whole in reversed(self._whole_splits.items()):
            left = phase_left_text(rows, self._totals, split, whole)
            return f"{PHASES[split]}: {left}" if left else ""
        return left_text(rows, self._totals, now, self._training())

    def _whole(self, hidden: int = 0) -> Group:
        now = self._clock()
        if not self._rows:
            return Group(Text(starting_text(self._totals, now - self._began)))
        table = trial_table(self._shown(), self._totals, now, self._doings, self._left(now), hidden)
        return Group(table, *(Text(training_line(number, one)) for number, one in self._training().items()))

    def _fitting(self) -> Group:
        """As much of the table's end as the terminal is high: what runs is there."""
        # A row takes a line at least.
        least = max(len(self._rows) - self._console.height, 0)
        hidden = bisect_left(range(least, len(self._rows)), True, key=self._fits)
        return self._whole(least + hidden)

    def _fits(self, hidden: int) -> bool:
        return len(self._console.render_lines(self._whole(hidden), pad=False)) <= self._console.height

    def _say_under_way(self) -> None:
        """A line for each training that is due one; where nothing was said for long, what the trials are at."""
        now, training = self._clock(), self._training()
        for line in self._lines.due(training, now):
            self._say(line)
        if self._ask_doings is not None and now - self._said_at >= LINE_SECONDS:
            others = [row for row in self._shown() if row.number not in training]
            if line := under_way_line(others, self._doings, now):
                self._say(line)

    def _say(self, line: str) -> None:
        self._said_at = self._clock()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _take(self, event: tuple[str, Any], say: bool) -> None:
        kind, value = event
        if kind == "started":
            self._begin(*value)
            return
        if kind == "warned":
            self._say_warnings(value)
            return
        row = self._rows.get(value[0])
        if row is None:
            return
        if self._ask_warnings is not None:
            # Those of a trial stand before the line that it has ended.
            self._say_warnings(self._ask_warnings())
        if kind == "timed":
            _, speed, now = value
            row = replace(row, state="done", speed=speed or "timed", seconds=now - row.began)
        else:
            _, quality, size, race, now = value
            state: State = "failed" if quality is None else "done"
            row = replace(row, state=state, quality=quality, bytes=size, race=race, seconds=now - row.began)
        self._rows[row.number] = row
        if say:
            shown, totals, split = self._shown(), self._totals, row.split
            whole = self._whole_splits.get(split, 0)
            # The probes of a profile come before anything says how long a trial takes.
            left = "" if split == PROFILE_SPLIT else self._left(now).removeprefix(f"{PHASES.get(split)}: ")
            ended, whole_bytes = ended_trials(shown, totals, split), totals.baseline_bytes
            self._say(trial_line(row, ended, totals=totals, baseline_bytes=whole_bytes, left=left, whole=whole))

    def _begin(self, row: TableRow, due: int) -> None:
        if row.split == RACED_SPLIT:
            self._numbers[row.label] = row.number
            # What was timed for the search is over.
            self._whole_splits.clear()
        if due:
            if row.split == SPEED_SPLIT and row.split not in self._whole_splits:
                self._say(timing_line(due))
            self._whole_splits[row.split] = ended_trials(self._shown(), self._totals, row.split) + due
        self._rows[row.number] = replace(row, of=self._numbers.get(row.label))

    def _shown(self) -> list[TableRow]:
        return [self._rows[number] for number in sorted(self._rows)]
