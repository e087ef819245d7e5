"""The one-candidate command's numbers: each metric's breakdown, with the signatures it was taken under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.outcome import Score
from workers.reading.segments import Segment
from workers.scoring.bins import Bin
from workers.scoring.breakdown import breakdown
from workers.scoring.metrics import METRICS


def summarize(
    scores: Mapping[str, Mapping[str, Score]],
    segments: Sequence[Segment],
    hypotheses: Sequence[str],
    rows: Sequence[Mapping[str, float]],
    bins: Sequence[Bin],
) -> dict[str, Any]:
    """metric -> signatures by pair, and all that `breakdown` gives.

    scores: metric -> pair -> its measured score. rows: for each segment, metric -> its score, of which those of metrics
    other than sacreBLEU's are averaged.
    """
    return {
        metric: {
            "signatures": {pair: score.signature for pair, score in by_pair.items()},
            **breakdown(
                metric,
                segments,
                hypotheses,
                bins,
                None if metric in METRICS else [row[metric] for row in rows],
            ),
        }
        for metric, by_pair in scores.items()
    }
