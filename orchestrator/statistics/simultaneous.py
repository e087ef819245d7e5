"""Intervals of several differences that hold together, as `telling_apart` decides who is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.statistics.telling_apart import ALPHA, LEAST_DOCUMENTS, TINY, Array, Spread, student


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference in quality, as measured, and what it may be: an interval that holds together with its others."""

    measured: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether it is shown to be no chance: the interval leaves out 0."""
        return not self.low <= 0.0 <= self.high


def simultaneous(
    ours: Sequence[float],
    theirs: Sequence[float],
    samples: Array,
    other_samples: Array,
    spread: Spread,
    alpha: float = ALPHA,
) -> list[Difference] | None:
    """Each of ours minus its partner of theirs; the chance that any interval misses is alpha.

    ours, theirs: qualities as measured. samples, other_samples: the same in each bootstrap sample, all drawn alike:
    shape (pairs, samples). The largest studentized difference of a sample decides how wide they are (Romano and Wolf
    2005, https://doi.org/10.1111/j.1468-0262.2005.00615.x), and each side is charged with one segment more than was
    seen, that loses half of the quality (see `shown_better`). None below `LEAST_DOCUMENTS` documents.
    """
    if not len(ours) or spread.documents < LEAST_DOCUMENTS or spread.freedom < 1:
        return None
    measured = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    unseen = float(max(np.abs(ours).max(), np.abs(theirs).max())) / 2 / spread.segments
    differences = samples - other_samples
    plain = differences.std(axis=1) * spread.correction
    deviation = np.maximum(np.hypot(plain, unseen), TINY)
    most = (np.abs(differences - measured[:, None]) / deviation[:, None]).max(axis=0)
    critical = student(float(np.quantile(most, 1 - alpha)), spread.freedom)
    reach = critical * deviation + unseen
    return [
        Difference(float(one), float(one - wide), float(one + wide)) for one, wide in zip(measured, reach, strict=True)
    ]
