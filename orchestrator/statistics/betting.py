"""Test the mean of bounded document scores by betting: evidence that may be looked at after every document.

Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS-B 86(1),
https://doi.org/10.1093/jrsssb/qkad009. One bets that the mean is below m: the capital is multiplied by
1 - bet * (x - m n) for each document, x its sum of differences and n its number of segments. If E[x] / E[n] is m or
more, no bet can be expected to win, and by Ville's inequality the capital, 1 at first, ever reaches 1/alpha with
probability alpha at most. The capital here is shared out among a geometric grid of bets, fixed beforehand.

A bet is the same for every document, and small enough that none can lose all: at most 1 / max(b - m n), where b is the
most that a document's x can be. To bet more where b is smaller would be wrong: b depends on the comparator's score, and
a document where the comparator did well by chance is one where the candidate looks worse.

Documents of several pairs come in turns. Their means may differ, and yet the capital holds wherever the pairs are in
proportion: the product of (1 - bet * mean of the pair) is at most the power of its average (arithmetic and geometric
mean), which is at most 1. So the capital is read there only, and where a rung ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

# Bets as shares of the greatest that is safe, and the share of the capital that goes to each: half to the greatest, for
# what is clear soon; the small ones are for small differences, which take so many documents that a share costs little.
BETS = 0.95 * 0.5 ** np.arange(7)
SHARES = 0.5 ** np.array([1, 2, 3, 4, 5, 6, 6])
# Halvings of [-100, 100] when an interval's end is sought: to 2e-7 points.
HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents in race order. x, n: sums of weighted differences, and of weights; shape (documents,).

    looks: the indices after which the capital may be read, ascending. most: of every document of the data set, done or
    not, the most that x can be, and its n; shape (all documents, 2).
    """

    x: Array
    n: Array
    looks: np.ndarray[Any, np.dtype[np.int64]]
    most: Array

    @property
    def mean(self) -> float:
        """The mean difference of a segment."""
        return float(self.x.sum() / self.n.sum())


def log_capital(sample: Sample, m: float) -> Array:
    """The log of the capital against "the mean is m or more" at each look; shape (looks,)."""
    bound = float((sample.most[:, 0] - m * sample.most[:, 1]).max())
    if bound <= 0:
        # The mean can't be m: every document is below it for sure.
        return np.full(len(sample.looks), np.inf)
    grown = np.log1p(np.multiply.outer(BETS / bound, m * sample.n - sample.x)).cumsum(axis=1)[:, sample.looks]
    peak = grown.max(axis=0)
    total: Array = peak + np.log(SHARES @ np.exp(grown - peak))
    return total


def upper_end(sample: Sample, alpha: float, low: float, high: float) -> float:
    """The least m within [low, high] that the bets reject at level alpha, at some look; `high` if they reject none."""
    threshold = -np.log(alpha)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if log_capital(sample, middle).max() >= threshold:
            high = middle
        else:
            low = middle
    return high
