"""Replay a search from a recorded table: a searcher proposes rows, and a simulated clock says when each would end."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from orchestrator.benches.search_replay.figures import FLOOR, UNTIL, Ended, Run, Volume
from orchestrator.benches.search_replay.table import STAGES, Array, Table

MOST = 240


class Searcher(Protocol):
    """A way of searching the rows of a table.

    uses_divergence: whether its trials measure the divergence from the baseline, and take the seconds of it.
    """

    uses_divergence: bool

    def start_seconds(self, table: Table, built: set[int]) -> float:
        """What it spends before the first trial; the artefacts that it builds meanwhile go into `built`."""

    def propose(self) -> int | None:
        """A row that was never proposed and is not the baseline; None when there is none, or none before another trial
        ends."""

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        """How a trial ended, the baseline's first. quality: None where it failed. kl: a divergence a pair; None where
        it failed before, or does not measure them. seconds: what it took, its wait for others' artefacts among them."""


class Clock:
    """When trials end. An artefact is built once, by the first trial that needs it; others wait until it is there."""

    def __init__(self, table: Table, divergence: bool, built: Iterable[int] = ()) -> None:
        counted = [stage for stage, name in enumerate(STAGES) if divergence or name != "divergence"]
        self._stages = table.stage_seconds[:, counted].sum(axis=1)
        self._prefixes = table.prefixes
        self._takes = table.artefact_seconds
        self._there = dict.fromkeys(built, 0.0)

    def end(self, row: int, begin: float) -> float:
        """When a trial of the row ends that begins then; trials must be given in the order of their beginnings."""
        now = begin
        for artefact in self._prefixes[row]:
            there = self._there.setdefault(artefact, now + float(self._takes[artefact]))
            now = max(now, there)
        return now + float(self._stages[row])


def replay(
    table: Table,
    searcher: Searcher,
    *,
    actors: int = 1,
    until: float = UNTIL,
    most: int = MOST,
    floor: float = FLOOR,
) -> Run:
    """Search the table with so many actors, each of which begins a new trial when its last one ends.

    After the searcher's own start the baseline is measured alone. Ends when the share `until` of the table's
    hypervolume is found, after `most` trials (the baseline among them), or when the searcher has no more to propose.
    Raises ValueError where it proposes a row again.
    """
    built: set[int] = set()
    start = searcher.start_seconds(table, built)
    clock = Clock(table, searcher.uses_divergence, built)
    volume = Volume(table, floor)
    begun = {table.baseline}
    running = [(clock.end(table.baseline, start), len(begun), table.baseline, start)]
    ended: list[Ended] = []
    while running and len(ended) < most and volume.share < until:
        now, _, row, began = heapq.heappop(running)
        quality = None if table.failed(row) else float(table.quality[row])
        ended.append(Ended(now, row, quality, volume.add(row)))
        searcher.tell(row, quality, _divergence(table, row) if searcher.uses_divergence else None, now - began)
        if running and running[0][0] == now:
            continue
        while len(running) < actors and len(begun) < most and (next_row := searcher.propose()) is not None:
            if next_row in begun:
                raise ValueError(f"row {next_row} was proposed again; each comes once, and the baseline by itself")
            begun.add(next_row)
            heapq.heappush(running, (clock.end(next_row, now), len(begun), next_row, now))
    whole = start + whole_table_seconds(table, actors, searcher.uses_divergence, built)
    return Run(tuple(ended), start, whole, table.rows)


def whole_table_seconds(table: Table, actors: int, divergence: bool, built: Iterable[int] = ()) -> float:
    """How long so many actors take for all rows, in the order of the table."""
    clock = Clock(table, divergence, built)
    free = [0.0] * actors
    for row in range(table.rows):
        heapq.heapreplace(free, clock.end(row, free[0]))
    return max(free)


def _divergence(table: Table, row: int) -> Array | None:
    return None if np.isnan(table.kl[row]).all() else table.kl[row]
