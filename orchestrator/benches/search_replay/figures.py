"""What a replay is worth: the table's hypervolume that it has found by when, and the figures over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from orchestrator.benches.search_replay.table import Table
from orchestrator.statistics.frontier import Objectives, below_floor, on_frontier
from orchestrator.statistics.hypervolume import dominated_area

# The share of the baseline's quality below which a candidate is of no use at any size.
FLOOR = 0.5
# The share of the table's hypervolume that a search is timed to.
UNTIL = 0.95
FIRST_BATCH = 8
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial of a replay: the clock at its end, its row, its quality (None: it failed), and the share of the table's
    hypervolume that was found by then."""

    seconds: float
    row: int
    quality: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Run:
    """A replay: its trials in the order in which they ended, the baseline first.

    start_seconds: what the searcher spent before the baseline; the clock counts it. whole_seconds, whole_trials: what
    trying the whole table takes instead.
    """

    ended: tuple[Ended, ...]
    start_seconds: float
    whole_seconds: float
    whole_trials: int


class Volume:
    """The share of a table's hypervolume that the rows given so far have."""

    def __init__(self, table: Table, floor: float = FLOOR) -> None:
        self._table = table
        self._floor = floor
        self._whole = hypervolume(table, range(table.rows), floor)
        self._front: list[int] = []
        self.share = 0.0

    def add(self, row: int) -> float:
        """The share with one more row."""
        if not self._table.failed(row):
            self._front = _frontier(self._table, [*self._front, row])
            if self._whole > 0:
                self.share = hypervolume(self._table, self._front, self._floor) / self._whole
        return self.share


def hypervolume(table: Table, rows: Iterable[int], floor: float = FLOOR) -> float:
    """The area of (log bytes, quality) that the rows dominate, bounded by the baseline's bytes and by this share of its
    quality."""
    points = [(math.log(table.bytes[row]), float(table.quality[row])) for row in rows if not table.failed(row)]
    return dominated_area(points, math.log(table.bytes[table.baseline]), floor * float(table.quality[table.baseline]))


def seconds_to(share: float, run: Run) -> float:
    """The clock when the run had this share of the table's hypervolume; where it never had, the seconds of trying the
    whole table."""
    return next((ended.seconds for ended in run.ended if ended.share >= share), run.whole_seconds)


def trials_to(share: float, run: Run) -> int:
    """The trials ended by then, the baseline among them; where the run never had the share, the rows of the table."""
    return next((at for at, ended in enumerate(run.ended, 1) if ended.share >= share), run.whole_trials)


def reached(share: float, run: Run) -> bool:
    return any(ended.share >= share for ended in run.ended)


def hypervolume_at(trials: int, run: Run) -> float:
    """The share of the table's hypervolume after so many trials, the baseline among them; after the last where there
    are fewer."""
    return run.ended[min(trials, len(run.ended)) - 1].share


def useless_share(run: Run, floor: float = FLOOR) -> float:
    """Of the trials after the baseline and the first batch, the share that failed or is below the floor."""
    baseline, *others = run.ended
    later = others[FIRST_BATCH:]
    useless = [ended.quality is None or below_floor(ended.quality, baseline.quality, floor) for ended in later]
    return sum(useless) / max(len(useless), 1)


def figures(runs: Mapping[str, Sequence[Run]], share: float = UNTIL) -> dict[str, float]:
    """Every figure of the bench, from each searcher's runs, one a seed.

    seconds_, trials_: medians over seeds to this share of the table's hypervolume. A run that never had it counts as
    the whole table. reached_: the share of runs that had it. worst_seed_: the slowest run's seconds over the median.
    useless_share_: mean over seeds. ratio_: our median seconds over the searcher's.
    """
    found: dict[str, float] = {}
    for name, each in runs.items():
        seconds = [seconds_to(share, run) for run in each]
        found[f"seconds_{name}"] = median(seconds)
        found[f"trials_{name}"] = float(median(trials_to(share, run) for run in each))
        found[f"reached_{name}"] = fmean(reached(share, run) for run in each)
        found[f"worst_seed_{name}"] = max(seconds) / median(seconds)
        found[f"useless_share_{name}"] = fmean(useless_share(run) for run in each)
    if OURS in runs:
        for name in runs.keys() - {OURS}:
            found[f"ratio_{name}"] = found[f"seconds_{OURS}"] / found[f"seconds_{name}"]
    return found


def _frontier(table: Table, rows: Iterable[int]) -> list[int]:
    """The rows that did not fail and that no other of them dominates, by rising bytes; of equal ones
    one."""
    points = {
        Objectives(float(table.quality[row]), int(table.bytes[row])): row for row in rows if not table.failed(row)
    }
    kept = on_frontier(list(points))
    front = [(point.bytes, row) for (point, row), keep in zip(points.items(), kept, strict=True) if keep]
    return [row for _, row in sorted(front)]
