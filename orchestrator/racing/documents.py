"""Gather a race's segment scores by document and by text, weighted so that their mean is the mean over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.statistics.betting import Array, Sample
from workers.reading.segments import Segment
from workers.scoring.rungs import documents_by_pair

# Segment scores lie within these, whatever the metric: what a metric gives outside is taken at the bound.
BOUNDS = (0.0, 100.0)
# How the error is shared out where pairs share texts: to the documents of new texts, and to texts in all their pairs.
NEW_SHARE, WHOLE_SHARE = 0.8, 0.2

Positions = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Candidate minus comparator, and comparator minus candidate, by units that are independent.

    share: how much of the error this evidence may use.
    """

    share: float
    below: Sample
    above: Sample


@dataclass(frozen=True, slots=True)
class _Units:
    """unit: that of each segment of the data set. done: the units done, in order. looks: indices into `done`."""

    share: float
    unit: Positions
    done: Positions
    looks: Positions


class RaceDocuments:
    """What is done of a race: the documents of texts that were new, and the texts that are done in all their pairs.

    A text in two pairs is not two independent documents. So the evidence is gathered twice: from the first document of
    each text, and from whole texts. A segment of a pair with N' of the N segments in P pairs weighs N / (P N').
    """

    def __init__(self, segments: Sequence[Segment], positions: Sequence[int]) -> None:
        by_pair = documents_by_pair(segments)
        self._positions: Positions = np.asarray(positions, dtype=np.int64)
        self._weight: Array = np.zeros(len(segments))
        pair, document, text = (np.zeros(len(segments), dtype=np.int64) for _ in range(3))
        pairs_of: dict[str, tuple[int, ...]] = {}
        for number, documents in enumerate(by_pair.values()):
            within = [at for each in documents.values() for at in each]
            self._weight[within] = len(segments) / len(by_pair) / len(within)
            pair[within] = number
            for label in documents:
                pairs_of[label] = (*pairs_of.get(label, ()), number)
        texts = {label: number for number, label in enumerate(pairs_of)}
        labelled = [item for documents in by_pair.values() for item in documents.items()]
        for number, (label, at) in enumerate(labelled):
            document[list(at)], text[list(at)] = number, texts[label]
        _refuse_cut(document, self._positions)
        shared = len(labelled) > len(texts)
        self._units = [_new_texts(document, text, pair, self._positions, NEW_SHARE if shared else 1.0)]
        if shared:
            kinds = {pairs: number for number, pairs in enumerate(dict.fromkeys(pairs_of.values()))}
            kind = np.asarray([kinds[pairs] for pairs in pairs_of.values()])[text]
            self._units += _whole_texts(text, kind, self._positions)

    def difference(self, scores: Array, comparator: Array) -> float:
        """The mean over pairs of candidate minus comparator, of all that is done."""
        weight = self._weight[self._positions]
        return float(self._difference(scores, comparator) @ weight / weight.sum())

    def evidence(self, scores: Array, comparator: Array) -> list[Evidence]:
        """One for each kind of unit.

        scores: of the positions done, shape (positions,). comparator: of every segment, shape (segments,).
        """
        low, high = BOUNDS
        theirs = np.clip(comparator, low, high)
        difference = np.zeros(len(theirs))
        difference[self._positions] = self._difference(scores, comparator)
        found = []
        for units in self._units:
            x, n, room, fall = (
                np.bincount(units.unit, values * self._weight).astype(np.float64)
                for values in (difference, np.ones(len(theirs)), high - theirs, theirs - low)
            )
            below = Sample(x[units.done], n[units.done], units.looks, np.stack([room, n], axis=1))
            above = Sample(-x[units.done], n[units.done], units.looks, np.stack([fall, n], axis=1))
            found.append(Evidence(units.share, below, above))
        return found

    def _difference(self, scores: Array, comparator: Array) -> Array:
        difference: Array = np.clip(scores, *BOUNDS) - np.clip(comparator, *BOUNDS)[self._positions]
        return difference


def _new_texts(document: Positions, text: Positions, pair: Positions, positions: Positions, share: float) -> _Units:
    """Each text's first document."""
    _, first = np.unique(text[positions], return_index=True)
    done = document[positions[np.sort(first)]]
    return _Units(share, document, done, _looks(done, document, pair))


def _whole_texts(text: Positions, kind: Positions, positions: Positions) -> list[_Units]:
    """The texts that are done in all their pairs; nothing while there are none."""
    counts = np.bincount(text[positions], minlength=text.max() + 1)
    last = {unit: at for at, unit in enumerate(text[positions].tolist())}
    whole = np.flatnonzero(counts == np.bincount(text))
    if not len(whole):
        return []
    done = np.asarray(sorted(whole.tolist(), key=last.__getitem__), dtype=np.int64)
    return [_Units(WHOLE_SHARE, text, done, _looks(done, text, kind))]


def _refuse_cut(document: Positions, positions: Positions) -> None:
    done, counts = np.unique(document[positions], return_counts=True)
    if len(np.unique(positions)) != len(positions) or not np.array_equal(counts, np.bincount(document)[done]):
        raise ValueError("a race is looked at where whole documents are done, each once")


def _looks(done: Positions, unit: Positions, group: Positions) -> Positions:
    """After which units the groups (pairs, or sets of them) are in proportion to their segments; and after the last."""
    sizes = np.bincount(unit)
    groups = np.zeros(len(sizes), dtype=np.int64)
    groups[unit] = group
    totals = np.bincount(group)
    counts = np.zeros((len(done), len(totals)), dtype=np.int64)
    counts[np.arange(len(done)), groups[done]] = sizes[done]
    counts = counts.cumsum(axis=0)
    even = (counts * totals.sum() == counts.sum(axis=1, keepdims=True) * totals).all(axis=1)
    even[-1] = True
    return np.flatnonzero(even)
