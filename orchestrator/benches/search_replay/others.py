"""The searchers that ours is compared with: by chance, by hand, and by Optuna's samplers."""

from __future__ import annotations

import importlib.util
import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optuna
from optuna.trial import TrialState

from orchestrator.benches.search_replay.replay import Searcher
from orchestrator.benches.search_replay.table import Array, Table, each_option_alone

SAMPLED_TRIES = 10
POPULATION = 16
# The share of the baseline's quality that an option may lose alone and still be combined with others.
MAY_LOSE = 0.02

Options = tuple[int, ...]
# table, seed, anchors (rows) -> a searcher.
Make = Callable[[Table, int, Sequence[int]], Searcher]


class Random:
    """Every row once, in random order."""

    uses_divergence = False

    def __init__(self, table: Table, seed: int) -> None:
        rows = [row for row in range(table.rows) if row != table.baseline]
        random.Random(seed).shuffle(rows)
        self._left = deque(rows)

    def start_seconds(self, table: Table, built: set[int]) -> float:
        return 0.0

    def propose(self) -> int | None:
        return self._left.popleft() if self._left else None

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        pass


class Grid:
    """A careful engineer: first what each option does alone, axis after axis, from the largest to the smallest, then
    products of those that cost little.

    An option is kept that lost less than MAY_LOSE of the baseline's quality. Products of what is kept are tried by
    rising bytes. When they are used up, an option may lose twice as much, and so on; last comes whatever is left.
    """

    uses_divergence = False

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_bytes = sorted(range(table.rows), key=lambda row: (int(table.bytes[row]), row))
        self._proposed = {table.baseline}
        self._qualities: dict[int, float | None] = {}
        self._alone = each_option_alone(table)
        self._first = deque(
            row
            for axis in range(len(table.axes))
            for row in reversed(self._by_bytes)
            if self._alone.get(row, (None,))[0] == axis
        )
        self._may_lose = MAY_LOSE

    def start_seconds(self, table: Table, built: set[int]) -> float:
        return 0.0

    def propose(self) -> int | None:
        if self._first:
            return self._propose(self._first.popleft())
        while self._may_lose < 1:
            kept = self._kept()
            product = np.all(kept[np.arange(len(kept)), self._table.options], axis=1)
            if (row := self._next(product)) is not None:
                return self._propose(row)
            if self._alone.keys() - self._qualities.keys():
                return None
            self._may_lose *= 2
        row = self._next(np.ones(self._table.rows, bool))
        return None if row is None else self._propose(row)

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        self._qualities[row] = quality

    def _propose(self, row: int) -> int:
        self._proposed.add(row)
        return row

    def _next(self, among: Array) -> int | None:
        return next((row for row in self._by_bytes if among[row] and row not in self._proposed), None)

    def _kept(self) -> Array:
        """Whether each option of each axis is kept, shape (axes, most options); the baseline's own always are."""
        options = self._table.options
        kept = np.zeros((len(self._table.axes), int(options.max()) + 1), bool)
        kept[np.arange(len(kept)), options[self._table.baseline]] = True
        whole = self._qualities.get(self._table.baseline) or 0.0
        for row, (axis, option) in self._alone.items():
            quality = self._qualities.get(row)
            if quality is not None and whole - quality < self._may_lose * whole:
                kept[axis, option] = True
        return kept


class Sampled:
    """Rows that a sampler of Optuna asks for.

    anchors: rows that come first. An answer that is known, pending or impossible is told to have failed, and the
    sampler is asked again, as a search of ours does it. After SAMPLED_TRIES of these the new row that is nearest to its
    last answer is taken, by the number of axes in which they differ, ties at random. log_bytes: whether the sampler is
    told the logarithm of the bytes.
    """

    uses_divergence = False

    def __init__(
        self,
        table: Table,
        sampler: optuna.samplers.BaseSampler,
        seed: int,
        anchors: Sequence[int] = (),
        log_bytes: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._table = table
        self._random = random.Random(seed)
        self._rows: dict[Options, int] = {tuple(options): row for row, options in enumerate(table.options.tolist())}
        self._anchors = deque(dict.fromkeys(row for row in anchors if row != table.baseline))
        self._log_bytes = log_bytes
        self._asked = {table.baseline: self._given(table.baseline)}

    def start_seconds(self, table: Table, built: set[int]) -> float:
        return 0.0

    def propose(self) -> int | None:
        if len(self._asked) == self._table.rows:
            return None
        while self._anchors:
            if (row := self._anchors.popleft()) not in self._asked:
                self.given(row)
                return row
        answer: Options = ()
        for _ in range(SAMPLED_TRIES):
            trial, answer = self._ask()
            row = self._rows.get(answer, self._table.baseline)
            if row not in self._asked:
                self._asked[row] = trial
                return row
            self._study.tell(trial, state=TrialState.FAIL)
        row = self._nearest(answer)
        self.given(row)
        return row

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        if quality is None:
            self._study.tell(self._asked[row], state=TrialState.FAIL)
        else:
            size = float(self._table.bytes[row])
            self._study.tell(self._asked[row], [quality, math.log(size) if self._log_bytes else size])

    def given(self, row: int) -> None:
        """Take a row that was chosen elsewhere, and is new, for asked."""
        self._asked[row] = self._given(row)

    def _ask(self) -> tuple[optuna.Trial, Options]:
        trial = self._study.ask()
        return trial, tuple(
            trial.suggest_categorical(name, range(len(options))) for name, options in self._table.axes.items()
        )

    def _given(self, row: int) -> optuna.Trial:
        """A trial of this row, whatever the sampler would have asked for."""
        self._study.enqueue_trial(dict(zip(self._table.axes, self._table.options[row].tolist(), strict=True)))
        return self._ask()[0]

    def _nearest(self, answer: Options) -> int:
        distances = (self._table.options != np.asarray(answer)).sum(axis=1)
        distances[list(self._asked)] = len(answer) + 1
        return int(self._random.choice(np.flatnonzero(distances == distances.min()).tolist()))


def tpe(table: Table, seed: int, anchors: Sequence[int] = ()) -> Sampled:
    """The sampler of `orchestrator/search/proposals.py`, as it is set there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
    return Sampled(table, sampler, seed, anchors)


def nsga2(table: Table, seed: int, anchors: Sequence[int] = ()) -> Sampled:
    """A genetic search, its population small enough for some generations within the trials that there are."""
    return Sampled(table, optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed), seed, anchors)


def gp(table: Table, seed: int, anchors: Sequence[int] = ()) -> Sampled:
    """A Gaussian process of each objective, and the expected gain of hypervolume. It models values, so that it is told
    the logarithm of the bytes, by which hypervolumes are measured here. Needs torch (`why_no_gp`)."""
    sampler = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    return Sampled(table, sampler, seed, anchors, log_bytes=True)


def why_no_gp() -> str | None:
    """Why the Gaussian process can't be asked here; None where it can."""
    missing = [name for name in ("torch", "scipy") if importlib.util.find_spec(name) is None]
    return f"gp is left out: optuna's GPSampler needs {' and '.join(missing)}" if missing else None


OTHERS: Mapping[str, Make] = {
    "random": lambda table, seed, anchors: Random(table, seed),
    "grid": lambda table, seed, anchors: Grid(table),
    "tpe_cold": lambda table, seed, anchors: tpe(table, seed),
    "warm_tpe": tpe,
    "nsga2": nsga2,
    "gp": gp,
}
