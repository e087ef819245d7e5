"""Judge a candidate in a race: beaten for sure, tied for sure, or to go on; never on a point estimate.

A candidate is compared, document by document, with points of no more bytes. The unit is the document of one pair; x is
the sum over its segments of candidate minus comparator, weighted so that the mean over segments is the mean over pairs
of mean segment scores; n is its weighted number of segments. The difference is d = E[x] / E[n].

Evidence against "d is at least m" is the capital of bets on each document (`betting`). The whole error, `alpha` (5 %),
of a candidate over all its comparators and looks is split in two:

- dominated or below the floor, 4.5 %. Not to be dropped is a candidate that is no worse than any comparator and not
  below the floor. Then each capital against "d is at least 0" is a supermartingale that starts at 1, and so is their
  average with weights fixed beforehand (1/2, 1/4, ... from the comparator of the highest quality down). By Ville's
  inequality it ever reaches 1/0.045 with probability 0.045 at most, whatever the number of looks.
- tie, 0.5 %. A tie with a comparator is wrong if d is the margin or more, or minus the margin or less. Both must be
  rejected, so the true one must: by Ville's inequality with a probability of 0.005 times the comparator's weight at
  most, and the weights sum to 1.

The floor is one more comparator: a point that needs no bytes, whose segment scores are the baseline's times a share.
It dominates the points below it, so none of those is a comparator. It decides drops alone: to be near it is no reason
to stop.

Where pairs share texts, evidence comes from the first document of each text and from texts in all their pairs
(`race_documents`); each kind has its share of either error, so the union of both stays within it.

What is taken for granted: texts are independent draws from what the data set stands for, and a candidate's comparators
are chosen when its race begins, not by its scores, and stay the same at every look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from orchestrator.racing.documents import BOUNDS, Evidence, RaceDocuments
from orchestrator.statistics.betting import Array, log_capital, upper_end
from orchestrator.statistics.frontier import Objectives, on_frontier
from workers.reading.segments import Segment

Kind = Literal["go on", "dominated", "below the floor", "tie"]
DROPS: tuple[Kind, ...] = ("dominated", "below the floor")

ALPHA = 0.05
# In chrF points, and in points of COMET x 100.
MARGIN = 0.3
# How much of alpha may go to wrong drops; the rest is for wrong ties.
DROP_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Comparator:
    """A fully measured point, or the floor, that a candidate is compared with."""

    number: int
    """The point's trial number."""
    bytes: int
    """The point's bytes on disk."""
    quality: float
    """The point's quality, the mean over pairs."""
    scores: Array
    """Segment scores of the quality metric, one for each position of the data set."""
    is_floor: bool = False
    """Whether it is the floor and not a point."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the evidence says of one comparator."""

    kind: Kind
    """What follows: "go on", or why the race ends."""
    by: int | None
    """The comparator's trial number; for "go on" the nearest one's, None if there is none; for the floor the
    baseline's."""
    low: float
    """Lower end of the anytime-valid 95 % interval of candidate minus comparator (0.5 % lie below)."""
    high: float
    """Upper end of the same interval (4.5 % lie above)."""
    difference: float
    """Candidate minus comparator, as seen."""
    projected: float
    """The comparator's quality plus the difference."""


UNDECIDED = Verdict(
    kind="go on", by=None, low=BOUNDS[0] - BOUNDS[1], high=BOUNDS[1] - BOUNDS[0], difference=0.0, projected=0.0
)


def floor_under(baseline: Comparator, share: float) -> list[Comparator]:
    """The floor as a comparator, the baseline's share of quality for no bytes; empty where nothing is asked.

    Nothing is asked by a share of 0, or under a baseline whose quality is 0 or less.
    """
    if share <= 0 or baseline.quality <= 0:
        return []
    return [replace(baseline, bytes=0, quality=share * baseline.quality, scores=share * baseline.scores, is_floor=True)]


def floor_among(points: Sequence[Comparator]) -> int | None:
    """The floor's index; None where it is not among them."""
    return next((at for at, point in enumerate(points) if point.is_floor), None)


def comparators_for(bytes: int, measured: Sequence[Comparator]) -> list[Comparator]:
    """The points that a candidate of so many bytes must beat: of no more bytes, and undominated among all measured.

    Sorted by falling quality. `measured` holds points whose every segment was translated, and the floor.
    """
    kept = on_frontier([Objectives(point.quality, point.bytes) for point in measured])
    return _ranked([point for point, stays in zip(measured, kept, strict=True) if stays and point.bytes <= bytes])


def judge(
    segments: Sequence[Segment],
    positions: Sequence[int],
    scores: Sequence[float],
    comparators: Sequence[Comparator],
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
) -> Verdict:
    """What the segments translated so far say of a candidate.

    segments: the whole data set. positions: what was translated, a prefix of `race_order` that ends with a document.
    scores: the candidate's segment scores there, in the same order. comparators: as `comparators_for` gave them when
    the race began. Raises ValueError for a cut document, or scores that do not fit.
    """
    if len(positions) != len(scores) or any(len(point.scores) != len(segments) for point in comparators):
        raise ValueError("a race needs a score for each position, and a comparator's for each segment")
    if not comparators or not positions:
        return UNDECIDED
    ranked = _ranked(comparators)
    documents = RaceDocuments(segments, positions)
    mine = np.asarray(scores, dtype=np.float64)
    theirs = [np.asarray(point.scores, dtype=np.float64) for point in ranked]
    evidence = [documents.evidence(mine, other) for other in theirs]
    differences = [documents.difference(mine, other) for other in theirs]
    floor = floor_among(ranked)
    kind, at = decide(evidence, alpha, margin, floor)
    if kind == "go on":
        points = [at for at in range(len(ranked)) if at != floor]
        if not points:
            return UNDECIDED
        at = min(points, key=lambda number: abs(differences[number]))
    span = BOUNDS[1] - BOUNDS[0]
    drop, tie = alpha * DROP_SHARE, alpha * (1 - DROP_SHARE)
    high = min(upper_end(each.below, drop * each.share, -span, span) for each in evidence[at])
    low = -min(upper_end(each.above, tie * each.share, -span, span) for each in evidence[at])
    return Verdict(
        kind=kind,
        by=ranked[at].number,
        low=low,
        high=high,
        difference=differences[at],
        projected=ranked[at].quality + differences[at],
    )


def decide(
    evidence: Sequence[Sequence[Evidence]], alpha: float, margin: float, floor: int | None = None
) -> tuple[Kind, int]:
    """The verdict, and the index of the comparator that it is said of (0 for "go on").

    evidence: `RaceDocuments.evidence` for each comparator, from the one of the highest quality down. floor: the index
    of the floor among them, where there is one.
    """
    if (at := dominator(evidence, alpha)) is not None:
        return ("below the floor" if at == floor else "dominated"), at
    points = [at for at in range(len(evidence)) if at != floor]
    if (at := _tied(evidence, points, alpha * (1 - DROP_SHARE), margin)) is not None:
        return "tie", at
    return "go on", 0


def dominator(evidence: Sequence[Sequence[Evidence]], alpha: float) -> int | None:
    """The comparator that the candidate is worse than for sure, by index; None where there is none."""
    found = (_dominator(one, alpha * DROP_SHARE) for one in zip(*evidence, strict=True))
    return next((at for at in found if at is not None), None)


def _dominator(evidence: Sequence[Evidence], alpha: float) -> int | None:
    """The comparator with the most capital where the weighted average reached what it takes; None if it never did."""
    capital = np.stack([log_capital(each.below, 0.0) for each in evidence])
    average = np.logaddexp.reduce(capital + np.log(_weights(len(evidence)))[:, None], axis=0)
    if average.max() < -np.log(alpha * evidence[0].share):
        return None
    return int(capital[:, average.argmax()].argmax())


def _tied(evidence: Sequence[Sequence[Evidence]], points: Sequence[int], alpha: float, margin: float) -> int | None:
    """The first of these comparators from which the candidate is less than the margin away, for sure."""
    for at, weight in zip(points, _weights(len(points)), strict=True):
        below, above = (
            any(log_capital(side, margin).max() >= -np.log(alpha * weight * share) for share, side in sides)
            for sides in (
                [(each.share, each.below) for each in evidence[at]],
                [(each.share, each.above) for each in evidence[at]],
            )
        )
        if below and above:
            return at
    return None


def _weights(count: int) -> Array:
    """1/2, 1/4, ..., the last two alike: they sum to 1."""
    weights = 0.5 ** np.minimum(np.arange(1, count + 1), max(count - 1, 0))
    return np.asarray(weights, dtype=np.float64)


def _ranked(points: Sequence[Comparator]) -> list[Comparator]:
    return sorted(points, key=lambda point: (-point.quality, point.number))
