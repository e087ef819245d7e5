"""The order in which a race translates a data set, and where it stops to look: whole documents, pairs in proportion."""

from __future__ import annotations

import random
from collections.abc import Sequence

from workers.reading.segments import Segment

# A rung that leaves less than this share of the segments to do is no rung: the look would save next to nothing.
LEAST_LEFT = 0.25

# One document of one pair: the positions of its segments, in the data set's order.
Document = tuple[int, ...]


def documents_by_pair(segments: Sequence[Segment]) -> dict[str, dict[str, Document]]:
    """pair -> document -> its positions; pairs sorted, documents in the data set's order.

    The same text in two pairs is two documents. A pair that is one single document has each segment for a document:
    a single document tells nothing of how far documents differ.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for position, segment in enumerate(segments):
        found.setdefault(segment.langs, {}).setdefault(segment.doc_id, []).append(position)
    return {
        pair: {segments[at].id: (at,) for at in next(iter(documents.values()))}
        if len(documents) == 1
        else {name: tuple(at) for name, at in documents.items()}
        for pair, documents in sorted(found.items())
    }


def race_order(segments: Sequence[Segment], seed: int) -> list[int]:
    """Every position once, in the one order in which all candidates of a study are raced.

    Documents are shuffled and stay whole, their segments in the data set's order. Pairs take turns, so that every
    prefix holds them in proportion to their segments, as far as whole documents allow. A text that several pairs share
    comes first in one of them only: what one pair says of it tells of the others. When no pair has a text left that is
    new, the other pairs follow, text by text.
    """
    by_pair = documents_by_pair(segments)
    names = list(dict.fromkeys(name for documents in by_pair.values() for name in documents))
    random.Random(seed).shuffle(names)
    first = _each_text_once(by_pair, names)
    place = {name: at for at, (_, name) in enumerate(first)}
    rest: dict[tuple[str, ...], list[list[Document]]] = {}
    for name in sorted(names, key=lambda name: place.get(name, len(place))):
        pairs = tuple(pair for pair in by_pair if name in by_pair[pair] and (pair, name) not in first)
        rest.setdefault(pairs, []).append([by_pair[pair][name] for pair in pairs])
    ordered = [by_pair[pair][name] for pair, name in first]
    ordered += [document for text in _in_turns(list(rest.values())) for document in text]
    return [position for document in ordered for position in document]


def _each_text_once(by_pair: dict[str, dict[str, Document]], names: Sequence[str]) -> dict[tuple[str, str], None]:
    """(pair, document), each text in one pair, the pair that is furthest behind next; until one finds no new text."""
    totals = {pair: sum(map(len, documents.values())) for pair, documents in by_pair.items()}
    done = dict.fromkeys(by_pair, 0)
    queues = {pair: iter([name for name in names if name in documents]) for pair, documents in by_pair.items()}
    taken: dict[str, str] = {}
    while True:
        behind = min(
            (pair for pair in by_pair if done[pair] < totals[pair]), key=lambda p: done[p] / totals[p], default=""
        )
        name = next((name for name in queues.get(behind, ()) if name not in taken), None)
        if name is None:
            return {(pair, name): None for name, pair in taken.items()}
        taken[name] = behind
        done[behind] += len(by_pair[behind][name])


def _in_turns(groups: Sequence[Sequence[list[Document]]]) -> list[list[Document]]:
    """The groups' texts, merged so that every prefix holds the groups in proportion."""
    turns = [
        ((at + 0.5) / len(group), number, text) for number, group in enumerate(groups) for at, text in enumerate(group)
    ]
    return [text for _, _, text in sorted(turns, key=lambda turn: turn[:2])]


def rung_ends(segments: Sequence[Segment], order: Sequence[int], rungs: Sequence[int]) -> list[int]:
    """How many segments of `order` are done at each look, ascending; the last look is at all of them.

    A rung ends with a document, at or after its size: of the next P ends of documents (P pairs), where the pairs are
    nearest to their proportions. Rungs that leave less than a quarter of the segments to do are dropped.
    """
    documents = [document for each in documents_by_pair(segments).values() for document in each.values()]
    of = {position: number for number, document in enumerate(documents) for position in document}
    boundaries = [at for at in range(1, len(order)) if of[order[at - 1]] != of[order[at]]]
    pairs = sorted({segment.langs for segment in segments})
    ends: set[int] = set()
    for size in rungs:
        near = [at for at in boundaries if at >= size][: len(pairs)]
        if near:
            ends.add(min(near, key=lambda at: (round(imbalance(segments, order[:at]), 9), at)))
    return [*sorted(end for end in ends if end <= (1 - LEAST_LEFT) * len(order)), len(order)]


def imbalance(segments: Sequence[Segment], positions: Sequence[int]) -> float:
    """How far the pairs are from their proportions among these positions, in segments of the pair worst off."""
    wanted = len(positions) / len(segments)
    totals = _counts(segments)
    done = _counts([segments[at] for at in positions])
    return max(abs(done.get(pair, 0) - wanted * total) for pair, total in totals.items())


def _counts(segments: Sequence[Segment]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for segment in segments:
        counts[segment.langs] = counts.get(segment.langs, 0) + 1
    return counts
