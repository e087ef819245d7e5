"""Our own search over a recorded table: the product's `Guidance`, its probes and trials answered by the table's rows,
and TPE for the sampler's share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.benches.search_replay.figures import FLOOR
from orchestrator.benches.search_replay.others import tpe
from orchestrator.benches.search_replay.table import STAGES, Array, Table
from orchestrator.benches.search_replay.table_rows import TableRows
from orchestrator.search.guidance import Guidance
from orchestrator.statistics.frontier import below_floor

# Of a trial these stages are a probe's: it translates nothing.
PROBED = [STAGES.index(stage) for stage in ("load", "divergence")]


@dataclass(frozen=True, slots=True)
class Profile:
    """What the probes found. nats: by row; None where the option can't be by itself. seconds: by row, what building its
    artefact took and measuring it. built: the artefacts that they left."""

    nats: dict[int, float | None]
    seconds: dict[int, float]
    built: frozenset[int]


class Ours:
    """A guided search as `orchestrator/search/proposals.py` runs it, for a table.

    Before a row is told or probed, its options, its bytes and its steps are known of it. actors: how many share the
    profile. seed: TPE's, and of the noise: the divergence that a probe found is off by a factor exp(N(0, noise)), as
    one over fewer texts would be. target: the share of the baseline's quality at which the smallest is sought; TPE then
    has no share, and nothing more is proposed once no row is expected to save enough. of_worst: whether that is the
    share of the pair that keeps least. blind: without a profile: each option is taken to harm by the share of the bytes
    that it saves, in nats.
    """

    uses_divergence = True

    def __init__(
        self,
        table: Table,
        seed: int,
        actors: int = 1,
        noise: float = 0.0,
        target: float | None = None,
        of_worst: bool = False,
        blind: bool = False,
    ) -> None:
        self._table = table
        self._actors = actors
        self._rows = TableRows(table)
        self._guidance = Guidance(self._rows, int(table.bytes[table.baseline]), FLOOR, target)
        self._sampler = tpe(table, seed) if target is None else None
        probed = [self._rows.row(steps) for steps in self._guidance.probes]
        self._profile = (
            no_profile(table, probed) if blind else profile_of(table, probed, np.random.default_rng(seed), noise)
        )
        self._of_worst = of_worst
        for row in probed:
            self._guidance.probed(self._rows.steps(row), self._profile.nats[row], self._profile.seconds[row])
        self._begun = 1
        self._pending: set[int] = set()
        self._whole: float | None = None

    def start_seconds(self, table: Table, built: set[int]) -> float:
        built |= self._profile.built
        return sum(self._profile.seconds.values()) / self._actors

    def propose(self) -> int | None:
        row = None if self._guidance.leaves_to_others(self._begun, waiting=False) else self._guided()
        if row is None:
            row = None if self._sampler is None else self._sampler.propose()
        elif self._sampler is not None:
            self._sampler.given(row)
        if row is not None:
            self._begun += 1
            self._pending.add(row)
        return row

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        self._pending.discard(row)
        if self._sampler is not None:
            self._sampler.tell(row, quality, kl, seconds)
        if row == self._table.baseline:
            self._whole, kl = quality, None
        kept = None if quality is None or not self._whole else quality / self._whole
        if kept is not None and self._of_worst:
            kept = worst_kept(self._table, row)
        stands = quality is not None and not below_floor(quality, self._whole, FLOOR)
        nats = None if kl is None else float(np.nanmean(kl))
        self._guidance.tell(self._rows.steps(row), int(self._table.bytes[row]), kept, nats, seconds, stands)

    def _guided(self) -> int | None:
        found = self._guidance.propose([self._rows.steps(row) for row in self._pending])
        return None if found is None else self._rows.row(found[1])


def worst_kept(table: Table, row: int) -> float:
    """Of the pair that keeps least of the baseline's quality, how much that is."""
    return float((table.pair_quality[row] / table.pair_quality[table.baseline]).min())


def no_profile(table: Table, probed: list[int]) -> Profile:
    """What is believed without probes, in no time."""
    whole = float(table.bytes[table.baseline])
    return Profile(
        {row: 1.0 - float(table.bytes[row]) / whole for row in probed}, dict.fromkeys(probed, 0.0), frozenset()
    )


def profile_of(table: Table, probed: list[int], random: np.random.Generator, noise: float) -> Profile:
    """What probes of these rows find, one after another: the artefact is built, loaded, and its divergence measured."""
    nats: dict[int, float | None] = {}
    seconds: dict[int, float] = {}
    built: set[int] = set()
    for row in probed:
        missing = [artefact for artefact in table.prefixes[row] if artefact not in built]
        seconds[row] = float(table.artefact_seconds[missing].sum() + table.stage_seconds[row, PROBED].sum())
        built.update(missing)
        failed = np.isnan(table.kl[row]).all()
        nats[row] = None if failed else float(np.nanmean(table.kl[row]) * np.exp(random.normal(0.0, noise)))
    return Profile(nats, seconds, frozenset(built))
