"""Pairs that are kept from training, so that a recovery is judged on translations it has not seen (no torch)."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field

from workers.reading.segments import Segment
from workers.reading.training_data import Example, TrainingData, examples, normalise_text

# At most this share of a direction's pairs is kept from training.
LARGEST_SHARE = 0.1


@dataclass(slots=True)
class _Kept:
    """The pairs of one direction that come first in drawn order, as a heap whose first is the last of them."""

    seen: int = 0
    heap: list[tuple[int, str, Example]] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    def offer(self, rank: int, source: str, example: Example, most: int) -> None:
        self.seen += 1
        if source in self.sources or (len(self.heap) >= most and -rank <= self.heap[0][0]):
            return
        self.sources.add(source)
        heapq.heappush(self.heap, (-rank, source, example))
        if len(self.heap) > most:
            self.sources.remove(heapq.heappop(self.heap)[1])

    def pairs(self) -> list[Example]:
        """In drawn order, no more than their share."""
        ordered = sorted(self.heap, key=lambda item: (-item[0], item[1]))
        return [example for _, _, example in ordered][: int(LARGEST_SHARE * self.seen)]


def held_out(data: TrainingData, count: int = 128, seed: int = 0) -> tuple[Segment, ...]:
    """About `count` pairs, as many of each direction and at most a tenth of any, each with a source of its own.

    The same for the same content, count and seed, whatever the files' order. A source that stands in several languages
    is drawn with all of them. Reads the files once; only what is kept is held in memory.
    """
    if not count:
        return ()
    most = -(-count // max(len(data.langs), 1))
    kept = {langs: _Kept() for langs in data.langs}
    for example in examples(data, Counter()):
        source = normalise_text(example.source)
        kept[example.langs].offer(_rank(source, seed), source, example, most)
    by_langs = [kept[langs].pairs() for langs in data.langs]
    turns = [pairs[turn] for turn in range(most) for pairs in by_langs if turn < len(pairs)]
    return tuple(example.segment for example in turns[:count])


def _rank(source: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{source}".encode(), digest_size=8).digest())
