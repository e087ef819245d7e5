"""Which calibration pairs statistics are taken over, and which are kept from them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from workers.reading.segments import Segment

# One pair in so many is kept from the statistics, to measure divergence on.
MEASURING_SHARE = 8


def parts(pairs: Sequence[Segment], seed: int) -> tuple[list[Segment], list[Segment]]:
    """The pairs for statistics and those for measuring divergence: disjoint, both with every language, in drawn order.

    A source that stands in several languages is on one side only.
    """
    sources = sorted({pair.source for pair in pairs})
    random.Random(seed).shuffle(sources)
    rank = {source: position for position, source in enumerate(sources)}
    ordered = sorted(pairs, key=lambda pair: (rank[pair.source], pair.langs))
    measuring = [pair for pair in ordered if rank[pair.source] % MEASURING_SHARE == MEASURING_SHARE - 1]
    statistics = [pair for pair in ordered if rank[pair.source] % MEASURING_SHARE != MEASURING_SHARE - 1]
    return statistics, measuring
