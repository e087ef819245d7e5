"""The trials of a search as a person reads them: a table, a line for one that ended, and the time left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from orchestrator.spelling import spell_bytes, spell_seconds
from workers.plan import SPEED_SPLIT

State = Literal["running", "done", "failed"]
# What a trial that is not the search's own is called.
PLACES = {"test": "held-out", SPEED_SPLIT: "speed"}


@dataclass(frozen=True, slots=True)
class Row:
    """A trial's line in the table. quality, bytes: None until it has ended well. seconds: since it began, or in all.
    race: how a race ended it, if one did; the quality is then a projected one. speed: what a timed one is told by.
    of: the number of the candidate's own trial, where this one scores or times it again."""

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
    of: int | None = None

    @property
    def shown(self) -> int:
        """The number that a person knows it by."""
        return self.number if self.of is None else self.of


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


def ended_trials(rows: list[Row], totals: Totals) -> int:
    """How many of the search's trials have ended, those known from before with them."""
    return totals.known + sum(row.split == "dev" and row.state != "running" for row in rows)


def trial_line(row: Row, ended: int, totals: Totals, baseline_bytes: int | None, left: float | None) -> str:
    """One ended trial as a plain line; ended: how many of the search's have, with it."""
    place = f"{ended}/{totals.trials}" if row.split == "dev" else PLACES[row.split]
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
        table.add_row(str(row.shown), label, quality, size, _ratio(row, base).strip(), _state(row, now))
    return table


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
    ended = ended_trials(rows, totals)
    left = time_left(rows, totals, now)
    if left is None:
        return f"{ended} of {totals.trials} trials"
    return f"{ended} of {totals.trials} trials, about {spell_seconds(left)} left"
