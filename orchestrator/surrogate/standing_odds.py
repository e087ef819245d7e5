"""How likely a candidate of some quality is to stand: to be within the limits on empty, repeated and foreign output.

Below some share of the baseline's quality a model breaks down in ways that no score forgives. Where that lies is
learnt: a logistic step over the kept share, its middle drawn from a prior and weighed by what stood and what did not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Of the middle, before anything is known; on the shipped model it lies near 0.8.
MIDDLE, SPREAD = 0.65, 0.15
WIDTH = 0.03
_MIDDLES = np.linspace(0.2, 1.0, 81)


def standing_odds(kept: Array, stood: Array, of: Array) -> Array:
    """The chance that candidates which keep `of` (n,) of the quality stand, given what others kept (m,) and whether
    they stood, bool (m,)."""
    weight = -0.5 * ((_MIDDLES - MIDDLE) / SPREAD) ** 2
    for share, stands in zip(kept, stood, strict=True):
        odds = _step(np.asarray(share) - _MIDDLES)
        weight = weight + np.log(np.maximum(odds if stands else 1.0 - odds, 1e-3))
    weight = np.exp(weight - weight.max())
    found: Array = _step(of[:, None] - _MIDDLES[None, :]) @ (weight / weight.sum())
    return found


def _step(away: Array) -> Array:
    found: Array = 1.0 / (1.0 + np.exp(-np.clip(away / WIDTH, -30.0, 30.0)))
    return found
