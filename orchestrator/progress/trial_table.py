"""The trials of a search as a person reads them: a table, a line for one that ended, and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rich.table import Table

from orchestrator.number_format import spell_bytes, spell_seconds
from search_spaces.wording import pluralize
from workers.plan.evaluation_plan import (
    PROFILE_SPLIT,
    RACED_SPLIT,
    SPEED_BATCHES,
    SPEED_REPEATS,
    SPEED_SPLIT,
    SPEED_TOKENS,
)
from workers.runtime.callbacks import Doing
from workers.runtime.training_progress import Progress as Training

State = Literal["running", "done", "failed"]
# What a trial that is not the search's own is called.
PLACES = {
    "test": "held-out",
    SPEED_SPLIT: "speed",
    PROFILE_SPLIT: "profile",
    "control": "control",
    "control_test": "control, held-out",
}
PHASES = {"test": "held-out scoring", SPEED_SPLIT: "timing"}
BASELINE = "baseline"
# A shorter time left is no news.
LEAST_TOLD = 1.0
STAGES = {
    "start": "starting",
    "compress": "compressing",
    "load": "loading",
    "divergence": "comparing",
    "translate": "translating",
    "score": "scoring",
    "speed": "timing",
    "measure": "measuring",
}
STARTING = Doing("start")


@dataclass(frozen=True, slots=True)
class TableRow:
    """A trial's line in the table."""

    number: int
    """The trial's number."""
    label: str
    """The candidate in words, by which trials of one candidate know each other."""
    split: str
    """The data that it is measured on."""
    state: State
    """Whether it still runs, or how it ended."""
    began: float
    """When it began, by the display's clock."""
    seconds: float | None = None
    """Seconds since it began, or in all."""
    quality: float | None = None
    """Its quality; None until it has ended well."""
    bytes: int | None = None
    """Its bytes on disk; None until it has ended well."""
    race: str | None = None
    """How a race ended it, if one did; the quality is then a projected one."""
    speed: str | None = None
    """The speed of a timed one, in words."""
    of: int | None = None
    """The number of the candidate's own trial, where this one scores or times it again."""
    short: str = ""
    """The candidate in a few characters, as the frontier has it."""

    @property
    def name(self) -> str:
        """The candidate as a person reads it."""
        return self.short or self.label

    @property
    def shown(self) -> int:
        """The number that a person knows it by."""
        return self.number if self.of is None else self.of


@dataclass(frozen=True, slots=True)
class Totals:
    """What there is to do."""

    trials: int
    """How many trials the search is to run."""
    known: int
    """How many of them are known already."""
    side_by_side: int = 1
    """How many trials run at a time."""
    baseline_bytes: int | None = None
    """Bytes on disk of the baseline; None where they are not known."""
    quality: str = "chrF"
    """The name of the quality metric."""
    segments: int | None = None
    """How many segments the search's data has."""
    trains: bool = False
    """Whether candidates may train."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What each candidate that is foreseen takes beside the others, in any unit, by its words and in their order."""
    follow: tuple[str, ...] = ()
    """The phases after the search, in words."""
    ends: float | None = None
    """When the search begins no further trial, by the display's clock; None where no `hours` limit it."""


def time_left(
    rows: list[TableRow], totals: Totals, now: float, trainings: Mapping[int, Training] | None = None
) -> float | None:
    """Seconds until the search's trials are done, from those that ended; None before the first has.

    A trial to come counts by what it costs beside those that ended, a candidate that is not foreseen by the mean of
    all. Time that a running trial has already taken counts, and what its training says is left.
    """
    search = [row for row in rows if row.split == RACED_SPLIT]
    took = [(row.seconds, _cost(row.label, totals)) for row in search if row.seconds is not None]
    if not took:
        return None
    a_unit = sum(seconds for seconds, _ in took) / sum(cost for _, cost in took)
    told = {number: one.left_s or 0.0 for number, one in (trainings or {}).items()}
    rest = a_unit * _cost_to_come(search, totals) + sum(
        max(a_unit * _cost(row.label, totals) - (now - row.began), told.get(row.number, 0.0), 0.0)
        for row in search
        if row.state == "running"
    )
    return rest / max(totals.side_by_side, 1)


def _cost(label: str, totals: Totals) -> float:
    mean = sum(totals.costs.values()) / len(totals.costs) if totals.costs else 1.0
    return totals.costs.get(label, mean)


def _cost_to_come(search: list[TableRow], totals: Totals) -> float:
    """Of the trials that have not begun: those that are foreseen first."""
    begun = {row.label for row in search}
    waiting = _waiting(search, totals)
    foreseen = [cost for label, cost in totals.costs.items() if label not in begun][:waiting]
    return sum(foreseen) + (waiting - len(foreseen)) * _cost("", totals)


def left_text(rows: list[TableRow], totals: Totals, now: float, trainings: Mapping[int, Training] | None = None) -> str:
    """What is left of the search in words, and what comes after it; "" where nothing can be said.

    `at least`: where no candidate has ended yet, for the baseline is neither compressed nor trained, and where those to
    come may train, each for as long as its budget takes. `at most`: where the study's hours are over before.
    """
    search = [row for row in rows if row.split == RACED_SPLIT]
    if not _waiting(search, totals) and all(row.state != "running" for row in search):
        return f"{' and '.join(totals.follow)} next" if totals.follow and search == rows else ""
    seconds = time_left(rows, totals, now, trainings)
    if seconds is None or seconds < LEAST_TOLD:
        # What runs is over its time, and how far is not known.
        return ""
    sure = not totals.trains and any(row.label != BASELINE and row.state != "running" for row in search)
    then = f", then {' and '.join(totals.follow)}" if totals.follow else ""
    if totals.ends is not None and now + seconds > totals.ends:
        return f"at most {spell_seconds(max(totals.ends - now, 0.0))} left for new trials (hours){then}"
    return f"{'about' if sure else 'at least'} {spell_seconds(seconds)} left{then}"


def phase_left_text(rows: list[TableRow], totals: Totals, split: str, whole: int) -> str:
    """What is left of held-out scoring or of timing, `whole` trials in all; "" before the first has ended."""
    took = [row.seconds for row in rows if row.split == split and row.seconds is not None]
    waiting = whole - len(took)
    if not took or waiting <= 0:
        return ""
    together = 1 if split == SPEED_SPLIT else max(totals.side_by_side, 1)
    return f"about {spell_seconds(sum(took) / len(took) * waiting / together)} left"


def _waiting(search: list[TableRow], totals: Totals) -> int:
    return max(totals.trials - totals.known - len(search), 0)


def doing_text(doing: Doing) -> str:
    """`translating 64 of 252`, or `compressing: quantizing, layer 3 of 32`."""
    stage = STAGES.get(doing.stage, doing.stage)
    what = f"{stage}: {doing.what}" if doing.what else stage
    return f"{what} {doing.done:,} of {doing.of:,}" if doing.of else what


def under_way_line(rows: list[TableRow], doings: Mapping[int, Doing], now: float) -> str:
    """What the trials that run are at, in one line; "" where none runs."""
    parts = [
        f"trial {row.shown} {row.name}: {doing_text(doings.get(row.number, STARTING))}, "
        f"{spell_seconds(now - row.began)} so far"
        for row in rows
        if row.state == "running"
    ]
    return "; ".join(parts)


def starting_text(totals: Totals, seconds: float) -> str:
    """What is under way before the first trial has begun, for so many seconds."""
    return f"{totals.known} of {totals.trials} trials, the first worker is starting, {spell_seconds(seconds)} so far"


def timing_line(points: int) -> str:
    """What the timing of so many points will do, said before it begins."""
    batches, what = ", ".join(map(str, SPEED_BATCHES[:-1])), pluralize(points, "point")
    return (
        f"timing {what}, one at a time: {SPEED_TOKENS} new tokens for {batches} and {SPEED_BATCHES[-1]} "
        f"segments at once, up to {1 + SPEED_REPEATS} times each"
    )


def ended_trials(rows: list[TableRow], totals: Totals, split: str = RACED_SPLIT) -> int:
    """How many of the split's trials have ended; of the search's, those known from before with them."""
    known = totals.known if split == RACED_SPLIT else 0
    return known + sum(row.split == split and row.state != "running" for row in rows)


def trial_line(
    row: TableRow, ended: int, totals: Totals, baseline_bytes: int | None, left: str = "", whole: int = 0
) -> str:
    """One ended trial as a plain line; ended: how many of its split have, with it. left: what is left, in words. whole:
    how many trials its split has, where it is not the search's own and that is known."""
    place = f"{ended}/{totals.trials}" if row.split == RACED_SPLIT else PLACES[row.split]
    if whole:
        place += f" {ended}/{whole}"
    score = row.speed or "failed"
    if row.quality is not None:
        said = row.race or f"{totals.quality} {row.quality:5.2f}"
        score = f"{said}  {spell_bytes(row.bytes or 0)}{_ratio(row, baseline_bytes)}"
    took = spell_seconds(row.seconds or 0)
    return f"[{place}] {row.name}: {score}  in {took}{f'  {left}' if left else ''}"


def trial_table(
    rows: list[TableRow],
    totals: Totals,
    now: float,
    doings: Mapping[int, Doing] | None = None,
    left: str = "",
    hidden: int = 0,
) -> Table:
    """The table a terminal shows. doings: trial number -> what it does. left: what is left, in words. hidden: how many
    rows, from the top, are counted and not shown."""
    title = f"{ended_trials(rows, totals)} of {totals.trials} trials{f', {left}' if left else ''}"
    table = Table(title=title, title_justify="left", expand=False)
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
    if hidden:
        table.add_row("", f"[dim]{hidden} earlier, shown at the end[/dim]")
    for row in rows[hidden:]:
        size = "" if row.bytes is None else spell_bytes(row.bytes)
        quality = "" if row.quality is None else f"{'about ' if row.race else ''}{row.quality:.2f}"
        label = row.name if row.split == RACED_SPLIT else f"{row.name} [dim]({PLACES[row.split]})[/dim]"
        table.add_row(str(row.shown), label, quality, size, _ratio(row, base).strip(), _state(row, now, doings or {}))
    return table


def _ratio(row: TableRow, baseline_bytes: int | None) -> str:
    return f"  {baseline_bytes / row.bytes:.2f}x" if row.bytes and baseline_bytes else ""


def _state(row: TableRow, now: float, doings: Mapping[int, Doing]) -> str:
    if row.state == "running":
        what = f", {doing_text(doings[row.number])}" if row.number in doings else ""
        return f"[cyan]running {spell_seconds(now - row.began)}{what}[/cyan]"
    took = spell_seconds(row.seconds or 0)
    if row.state == "failed":
        return f"[red]failed in {took}[/red]"
    said = row.race or row.speed
    return f"{said}, in {took}" if said else f"in {took}"
