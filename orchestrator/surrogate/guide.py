"""Which candidate to measure next, of a space that is known whole: bytes exactly, damage roughly.

A candidate is a row: an option of each axis. A profile says what each option does alone, in nats; `DivergenceModel`
adds up and learns, `QualityMap` turns divergence into quality and learns too. First comes a ladder of predicted best
points spread over sizes, each better than the next smaller by more than the metric does by chance, then always the row
whose expected gain of hypervolume for the root of its seconds is highest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from orchestrator.statistics.hypervolume import dominated_area
from orchestrator.surrogate.acquisition import expected_gain, expected_saving, front_of, ladder
from orchestrator.surrogate.divergence_model import LEAST, fit_divergence
from orchestrator.surrogate.quality_map import (
    NOISE,
    TRAINED_FACTOR,
    VOCABULARY_FACTOR,
    Belief,
    beyond_divergence,
    fit_quality,
    kinds_of_damage,
)
from orchestrator.surrogate.standing_odds import standing_odds
from orchestrator.surrogate.three_objectives import Corner, Placed, bands_of, expected_volume, worst_cost
from search_spaces.spaces.axes import VOCABULARY
from search_spaces.spaces.training_suggestions import RISE

Array = np.ndarray[Any, np.dtype[Any]]

# Steps of the ladder.
LADDER = 6
# The ladder's points are predicted to keep more than the floor by so much of what lies above it.
LADDER_MARGIN = 0.3
# Of the kept share, what e times the seconds are worth on the ladder: it ends near ties for what is cheaper.
PRICE = 0.015
# The log bytes that a candidate must be expected to save for the search of a target to go on: 1 % of the file.
LEAST_SAVING = 0.01
# What is expected of gains is believed once so many rows are known.
ENOUGH = 12
# A row that is likelier than this to be below the floor is not worth a trial.
MOST_USELESS = 0.2


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of rows: the kept share of the baseline's quality, the chance to stand, and what measuring each
    adds to the frontier's hypervolume, or saves in log bytes where there is a target; all (rows,). reached: the
    frontier's hypervolume, rows under way taken at their medians; 0 where there is a target."""

    belief: Belief
    odds: Array
    gain: Array
    reached: float = 0.0

    @property
    def kept(self) -> Array:
        """The median of what each keeps (rows,)."""
        return self.belief.kept


@dataclass(slots=True)
class Guide:
    """Learns from what is told; the same tellings in the same order lead to the same rows.

    axes: their names, in the order of `options` (rows, axes), whose 0 is the option that changes nothing. log_bytes:
    (rows,). harm: for each axis what each option does alone, in nats, shape (options,). floor: the share of the
    baseline's quality below which nothing counts.
    """

    axes: tuple[str, ...]
    options: Array
    log_bytes: Array
    harm: tuple[Array, ...]
    most: float
    """Log bytes of the baseline."""
    floor: float = 0.5
    seconds: Array | None = None
    """What a trial of each row is expected to take, before anything was tried (rows,); None where all are alike."""
    target: float | None = None
    """The kept share at which the smallest row is sought; None for the whole frontier."""
    trained: Array | None = None
    """How each row is trained, as in `divergence_model.features` (rows, 4); None where none is."""
    log_costs: Array | None = None
    """Log cost of each row in a third objective, the baseline's being 0 (rows,); None where there is none."""
    least_rate: float = 0.0
    """Of the hypervolume reached, what a row must be expected to add in a second for the search to go on."""
    settled: bool = False
    """Whether no open row was expected to, when it was last asked."""
    known: dict[int, float] = field(default_factory=dict)
    """Row -> kept share of quality, 0 for one that failed."""
    measured: dict[int, float] = field(default_factory=dict)
    """Row -> measured divergence in nats."""
    _standing: set[int] = field(default_factory=set)
    _others: list[Placed] = field(default_factory=list)
    _ladder: list[int] = field(init=False)
    _parts: Array = field(init=False)
    _expected: Belief | None = None

    def __post_init__(self) -> None:
        columns = [harm[self.options[:, axis]] for axis, harm in enumerate(self.harm)]
        self._parts = np.stack(columns, axis=1) if columns else np.zeros((len(self.options), 0))
        # Of the profile alone, so that a search which goes on climbs the same one.
        price = 0.0 if self.seconds is None else PRICE * np.log(self.seconds / self.seconds.min())
        kept = self._told().kept - price
        if self.trained is not None:
            # Longer trainings come when shorter ones have shown what they are worth.
            later = (self.trained[:, 1] > math.log(RISE) + LEAST) | (self.trained[:, 2] > 0)
            kept = np.where(later, 0.0, kept)
        least = self.floor + LADDER_MARGIN * (1.0 - self.floor)
        self._ladder = ladder(self.log_bytes, kept, LADDER, least, NOISE) if self.target is None else []

    def tell(self, row: int, kept: float | None, divergence: float | None, stands: bool = True) -> None:
        """What a row's trial found. kept: its share of the baseline's quality; None where it failed. stands: whether it
        may be on the frontier."""
        self.known[row] = 0.0 if kept is None else kept
        if kept is not None and stands:
            self._standing.add(row)
        if kept is not None and divergence is not None:
            self.measured[row] = divergence
        self._expected = None

    def tell_other(self, log_bytes: float, kept: float, log_cost: float = 0.0) -> None:
        """A point that may be on the frontier and is no row."""
        self._others.append(Placed(log_bytes, kept, log_cost))

    def prior(self, rows: list[int]) -> Array:
        """What the profile alone says of these rows' divergence, in nats."""
        found: Array = self._parts[rows].sum(axis=1)
        return found

    def propose(self, pending: set[int], closed: Array, seconds: Array) -> tuple[int, Expected] | None:
        """The row to measure next, and what is expected of all; None when none is open, none is expected to save enough
        of a target's bytes, or, once ENOUGH are known, none to add enough in its time.

        pending: rows under way. closed: rows that may not be proposed, bool (rows,). seconds: what each would take
        (rows,)."""
        found = self.expect(pending)
        for row in self._ladder:
            if not closed[row] and row not in self.known and row not in pending and self.log_bytes[row] < self.most:
                return row, found
        worth = found.gain / np.sqrt(np.maximum(seconds, LEAST))
        worth[closed] = -1.0
        worth[found.belief.odds_below(self.floor) > MOST_USELESS] = -1.0
        worth[list(self.known)] = -1.0
        worth[list(pending)] = -1.0
        row = int(np.argmax(worth))
        if self.least_rate and len(self.known) >= ENOUGH:
            rates = np.where(worth < 0.0, 0.0, found.gain / np.maximum(seconds, LEAST))
            self.settled = bool(rates.max() < self.least_rate * found.reached)
            if self.settled:
                return None
        if worth[row] < 0.0 or (self.target is not None and found.gain[worth >= 0.0].max() < LEAST_SAVING):
            return None
        return row, found

    def expect(self, pending: set[int]) -> Expected:
        """What is expected of every row. Rows under way are taken to turn out as their medians."""
        belief = self._told()
        kept, log_bytes = belief.kept, self.log_bytes
        points = [self._placed(row, self.known[row]) for row in sorted(self._standing)]
        points += [self._placed(row, float(kept[row])) for row in sorted(pending)] + self._others
        if self.log_costs is not None:
            corner = Corner(self.most, worst_cost(self.log_costs), self.floor)
            bands = bands_of(points, log_bytes, self.log_costs, corner)
            reached, gain = bands.reached, belief.expectation(partial(expected_volume, bands))
        elif self.target is None:
            sizes, qualities = [point.log_bytes for point in points], [point.kept for point in points]
            front = front_of(sizes, qualities, self.floor, self.most)
            gain = belief.expectation(
                lambda mean, deviation: expected_gain(front, log_bytes, mean, deviation, self.floor, self.most)
            )
            reached = dominated_area(
                zip(front.log_bytes.tolist(), front.kept.tolist(), strict=True), self.most, self.floor
            )
        else:
            reached = 0.0
            smallest = min([point.log_bytes for point in points if point.kept >= self.target], default=self.most)
            target = self.target
            gain = belief.expectation(
                lambda mean, deviation: expected_saving(smallest, log_bytes, mean, deviation, target)
            )
        scored = [row for row, share in self.known.items() if share > 0]
        stood = np.array([row in self._standing for row in scored], dtype=bool)
        odds = standing_odds(np.array([self.known[row] for row in scored]), stood, kept)
        return Expected(belief, odds, gain * odds, reached)

    def _placed(self, row: int, kept: float) -> Placed:
        cost = 0.0 if self.log_costs is None else float(self.log_costs[row])
        return Placed(float(self.log_bytes[row]), kept, cost)

    def _told(self) -> Belief:
        if self._expected is None:
            rows = list(self.measured)
            parts, trained = self._parts[rows], None if self.trained is None else self.trained[rows]
            divergence = np.array([self.measured[row] for row in rows])
            kept = np.array([self.known[row] for row in rows])
            factors = [VOCABULARY_FACTOR if axis == VOCABULARY else 0.0 for axis in self.axes]
            factors += [] if trained is None else [TRAINED_FACTOR]
            by_divergence = fit_divergence(parts, divergence, trained)
            damage = kinds_of_damage(parts, trained)
            log_kl = np.log(np.maximum(divergence, LEAST))
            to_quality = fit_quality(damage, log_kl, kept, np.array(factors), beyond_divergence(trained))
            self._expected = to_quality.predict(
                kinds_of_damage(self._parts, self.trained),
                *by_divergence.predict(self._parts, self.trained),
                beyond_divergence(self.trained),
            )
        return self._expected
