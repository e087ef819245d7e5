"""Ranges of human or difficulty scores, and of source lengths, that segments are sorted into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.errors import StudyError
from workers.languages.scripts import words

UNSCORED = "unscored"
OUTSIDE = "outside"
# Words of the source (characters where no spaces are written): the longest source of each bin; the last has no end.
SOURCE_WORDS = (8, 16, 32, 64)


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
            raise StudyError(f"the bin {part!r} is not a range such as 30-60") from error
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
    return next((part.name for part in bins if part.holds(score)), OUTSIDE)


def length_bins() -> tuple[str, ...]:
    """The names of the source-length bins, shortest first: "1-8 words", …, "65+ words"."""
    firsts = (0, *SOURCE_WORDS)
    return (
        *(f"{low + 1}-{high} words" for low, high in zip(firsts, SOURCE_WORDS, strict=False)),
        f"{SOURCE_WORDS[-1] + 1}+ words",
    )


def length_bin(source: str) -> str:
    """The name of the bin that a source's number of words falls in."""
    count = len(words(source))
    return length_bins()[sum(count > most for most in SOURCE_WORDS)]
