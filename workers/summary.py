"""The one-candidate command's numbers: by pair, overall as the mean over pairs, and by bins of human score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import StudyError
from workers.reading.segments import Segment
from workers.scoring import overall, scores_by_pair

UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Bin:
    """A range of scores, (low, high]; the first bin takes in its low end too."""

    name: str
    low: float
    high: float
    closed: bool

    def holds(self, score: float) -> bool:
        return self.low < score <= self.high or (self.closed and score == self.low)


def parse_bins(text: str) -> tuple[Bin, ...]:
    """`0-30,30-60,60-100` as bins; raises StudyError for ranges that are empty, out of order or overlapping."""
    bins: list[Bin] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        low_text, _, high_text = part.partition("-")
        try:
            low, high = float(low_text), float(high_text)
        except ValueError as error:
            raise StudyError(f"the bin {part!r} is no range such as 30-60") from error
        if not low < high or (bins and low < bins[-1].high):
            raise StudyError(
                f"the bin {part!r} is empty, or overlaps the one before; write ascending ranges such as 0-30,30-60"
            )
        bins.append(Bin(part, low, high, closed=not bins))
    if not bins:
        raise StudyError(f"bins is {text!r}; write ranges such as 0-30,30-60,60-100")
    return tuple(bins)


def bin_of(score: float | None, bins: Sequence[Bin]) -> str:
    """The name of the bin a score falls in; `unscored` without one, `outside` where no bin reaches."""
    if score is None:
        return UNSCORED
    return next((part.name for part in bins if part.holds(score)), "outside")


def summarize(
    metrics: Sequence[str], segments: Sequence[Segment], hypotheses: Sequence[str], bins: Sequence[Bin]
) -> dict[str, Any]:
    """metric -> overall, worst_pair, signatures, by_langpair, by_bin and by_langpair_bin; bins that hold no segment are
    left out."""
    everything = scores_by_pair(metrics, segments, hypotheses)
    names = [bin_of(segment.human_score, bins) for segment in segments]
    in_bins = {
        name: scores_by_pair(
            metrics,
            [segment for segment, at in zip(segments, names, strict=True) if at == name],
            [text for text, at in zip(hypotheses, names, strict=True) if at == name],
        )
        for name in [*(part.name for part in bins), "outside", UNSCORED]
        if name in names
    }
    return {
        metric: {
            "overall": overall(by_pair),
            "worst_pair": min(by_pair, key=lambda pair: by_pair[pair].value),
            "signatures": {pair: score.signature for pair, score in by_pair.items()},
            "by_langpair": {pair: score.value for pair, score in by_pair.items()},
            "by_bin": {name: overall(scores[metric]) for name, scores in in_bins.items()},
            "by_langpair_bin": {
                pair: {name: scores[metric][pair].value for name, scores in in_bins.items() if pair in scores[metric]}
                for pair in by_pair
            },
        }
        for metric, by_pair in everything.items()
    }
