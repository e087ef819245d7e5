"""What a person watches while a search runs: a trial table that updates, and the time left.

In a terminal the table redraws itself; elsewhere each trial that ends prints a line.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.standing import race_text
from search_spaces.outcome import Race
from workers.plan import SPEED_SPLIT

State = Literal["running", "done", "failed"]
REDRAW_SECONDS = 0.5
# What a trial that is not the search's own is called.
PLACES = {"test": "held-out", SPEED_SPLIT: "speed"}


@dataclass(frozen=True, slots=True)
class Row:
    """A trial's line in the table. quality, bytes: None until it has ended well. seconds: since it began, or in all.
    race: how a race ended it, if one did; the quality is then a projected one. speed: what a timed one is told by."""

    number: int
    label: str
    split: str
    state: State
    began: float
    seconds: float | None = None
    quality: float | None = None
    bytes: int | None = None
    race: str | None = None
    speed: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What there is to do: trials asked for, those already known, how many run side by side; the baseline's bytes; the
    quality's name, and how many segments the search's data has."""

    trials: int
    known: int
    side_by_side: int = 1
    baseline_bytes: int | None = None
    quality: str = "chrF"
    segments: int | None = None


def time_left(rows: list[Row], totals: Totals, now: float) -> float | None:
    """Seconds until the search's trials are done, from the mean of those that ended; None before the first has.

    Time that a running trial has already taken counts.
    """
    search = [row for row in rows if row.split == "dev"]
    took = [row.seconds for row in search if row.seconds is not None]
    if not took:
        return None
    mean = sum(took) / len(took)
    running = [row for row in search if row.state == "running"]
    waiting = max(totals.trials - totals.known - len(search), 0)
    rest = waiting * mean + sum(max(mean - (now - row.began), 0.0) for row in running)
    return rest / max(totals.side_by_side, 1)


def spell_seconds(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spell_bytes(size: int) -> str:
    """Decimal units, as disks are sold: `10.6 MB`, `14.5 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def trial_line(row: Row, totals: Totals, baseline_bytes: int | None, left: float | None) -> str:
    """One ended trial as a plain line."""
    place = f"{row.number + 1}/{totals.trials}" if row.split == "dev" else PLACES[row.split]
    score = row.speed or "failed"
    if row.quality is not None:
        said = row.race or f"{totals.quality} {row.quality:5.2f}"
        score = f"{said}  {spell_bytes(row.bytes or 0)}{_ratio(row, baseline_bytes)}"
    took = spell_seconds(row.seconds or 0)
    after = "" if left is None or row.split != "dev" else f"  about {spell_seconds(left)} left"
    return f"[{place}] {row.label}: {score}  in {took}{after}"


def trial_table(rows: list[Row], totals: Totals, now: float) -> Table:
    """The table a terminal shows."""
    table = Table(title=_title(rows, totals, now), title_justify="left", expand=False)
    for name, justify in (
        ("trial", "right"),
        ("steps", "left"),
        (totals.quality, "right"),
        ("size", "right"),
        ("ratio", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    base = totals.baseline_bytes
    for row in rows:
        size = "" if row.bytes is None else spell_bytes(row.bytes)
        quality = "" if row.quality is None else f"{'about ' if row.race else ''}{row.quality:.2f}"
        label = row.label if row.split == "dev" else f"{row.label} [dim]({PLACES[row.split]})[/dim]"
        table.add_row(str(row.number), label, quality, size, _ratio(row, base).strip(), _state(row, now))
    return table


class Progress:
    """Gathers what the trials say and shows it, from a thread of its own: telling it can't raise or wait."""

    def __init__(self, totals: Totals, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._totals = totals
        self._console = console
        self._clock = clock
        self._events: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._rows: dict[int, Row] = {}
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def started(self, number: int, label: str, split: str) -> None:
        """A trial began, or began again after its worker was lost."""
        self._events.put(("started", Row(number, label, split, "running", self._clock())))

    def ended(self, number: int, quality: float | None, size: int | None, race: Race | None = None) -> None:
        """A trial ended; quality and size are None for a failure, and race None unless a race ended it early."""
        said = None if race is None else race_text(race, self._totals.segments)
        self._events.put(("ended", (number, quality, size, said, self._clock())))

    def timed(self, number: int, speed: str | None) -> None:
        """A frontier point was timed; speed: what came out, in words."""
        self._events.put(("timed", (number, speed, self._clock())))

    def stop(self) -> None:
        """Show the last state and end."""
        self._events.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        if not self._console.is_terminal:
            while (event := self._events.get()) is not None:
                self._take(event, say=True)
            return
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            over = False
            while not over:
                try:
                    event = self._events.get(timeout=REDRAW_SECONDS)
                    over = event is None
                    if event is not None:
                        self._take(event, say=False)
                except queue.Empty:
                    pass
                live.update(trial_table(self._shown(), self._totals, self._clock()), refresh=True)

    def _take(self, event: tuple[str, Any], say: bool) -> None:
        kind, value = event
        if kind == "started":
            self._rows[value.number] = value
            return
        row = self._rows.get(value[0])
        if row is None:
            return
        if kind == "timed":
            _, speed, now = value
            row = replace(row, state="done", speed=speed or "timed", seconds=now - row.began)
        else:
            _, quality, size, race, now = value
            state: State = "failed" if quality is None else "done"
            row = replace(row, state=state, quality=quality, bytes=size, race=race, seconds=now - row.began)
        self._rows[row.number] = row
        if say:
            left = time_left(self._shown(), self._totals, now)
            self._console.print(
                trial_line(row, self._totals, self._totals.baseline_bytes, left),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _shown(self) -> list[Row]:
        return [self._rows[number] for number in sorted(self._rows)]


def _ratio(row: Row, baseline_bytes: int | None) -> str:
    return f"  {baseline_bytes / row.bytes:.2f}x" if row.bytes and baseline_bytes else ""


def _state(row: Row, now: float) -> str:
    if row.state == "running":
        return f"[cyan]running {spell_seconds(now - row.began)}[/cyan]"
    took = spell_seconds(row.seconds or 0)
    if row.state == "failed":
        return f"[red]failed in {took}[/red]"
    said = row.race or row.speed
    return f"{said}, in {took}" if said else f"in {took}"


def _title(rows: list[Row], totals: Totals, now: float) -> str:
    ended = totals.known + sum(row.split == "dev" and row.state != "running" for row in rows)
    left = time_left(rows, totals, now)
    if left is None:
        return f"{ended} of {totals.trials} trials"
    return f"{ended} of {totals.trials} trials, about {spell_seconds(left)} left"
