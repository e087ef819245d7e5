"""What our search saves, each apart: by building shared steps once, by its profile, and at most by races."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from orchestrator.benches.search_replay.figures import FLOOR, UNTIL, Run, seconds_to, trials_to
from orchestrator.benches.search_replay.table import STAGES, Table
from orchestrator.statistics.frontier import Objectives, below_floor, dominates

# What a race shortens.
RACED = [STAGES.index(stage) for stage in ("translate", "score")]


def saved_by_prefixes(table: Table, run: Run) -> float:
    """Of the seconds that the run's trials would take if each built all steps on its way, the share that building them
    once saves. For a run of one actor."""
    seconds = seconds_to(UNTIL, run)
    rows = _rows(run)
    ways = sum(float(table.artefact_seconds[list(table.prefixes[row])].sum()) for row in rows)
    alone = run.start_seconds + float(table.stage_seconds[rows].sum()) + ways
    return 1.0 - seconds / alone


def races_save_at_most(table: Table, run: Run) -> float:
    """Of the run's seconds the share in which trials are translated and scored that one measured before dominates, or
    that are below the floor: no race ends another. For a run of one actor."""
    found: list[Objectives] = []
    seconds = 0.0
    for row in _rows(run):
        if table.failed(row):
            continue
        point = Objectives(float(table.quality[row]), int(table.bytes[row]))
        useless = below_floor(point.quality, float(table.quality[table.baseline]), FLOOR)
        if useless or any(dominates(other, point) for other in found):
            seconds += float(table.stage_seconds[row, RACED].sum())
        found.append(point)
    return seconds / seconds_to(UNTIL, run)


def savings(table: Table, ours: Sequence[Run], blind: Sequence[Run]) -> dict[str, float]:
    """The figures, medians over seeds. blind: runs of the same search without a profile."""
    with_profile, without = (median(seconds_to(UNTIL, run) for run in runs) for runs in (ours, blind))
    return {
        "saved_by_prefixes_ours": median(saved_by_prefixes(table, run) for run in ours),
        "saved_by_profile": 1.0 - with_profile / without,
        "seconds_blind": without,
        "saved_by_racing_at_most": median(races_save_at_most(table, run) for run in ours),
    }


def _rows(run: Run) -> list[int]:
    return [ended.row for ended in run.ended[: trials_to(UNTIL, run)]]
