"""What a study aims at, as a person writes it: `chrf>=99%` of the baseline's, or `worst_pair>=98%`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from search_spaces.errors import StudyError

RULE = "such as chrf>=99% (of the baseline's mean over language pairs) or worst_pair>=98%"
WORST = "worst_pair"
_FORM = re.compile(r"\s*([a-z_]+)\s*>=\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Target:
    """The share of the baseline's quality that is to be kept.

    of: the quality metric, whose mean over language pairs counts, or "worst_pair", the pair that keeps least. share:
    above 0 and at most 1.
    """

    of: str
    share: float

    @property
    def of_worst(self) -> bool:
        return self.of == WORST

    def __str__(self) -> str:
        return f"{self.of}>={self.share * 100:g}%"


def target_of(text: str, quality: str) -> Target:
    """The target that the text spells; raises StudyError for anything else, and for a metric that is not the study's
    quality."""
    parts = _FORM.fullmatch(text)
    share = float(parts[2]) / 100 if parts else 0.0
    if parts is None or not 0 < share <= 1:
        raise StudyError(f"target is {text!r}; it must be {RULE}")
    if parts[1] not in (quality, WORST):
        raise StudyError(f"target is {text!r}, and the study's quality is {quality}: name {quality} or {WORST}")
    return Target(parts[1], share)
