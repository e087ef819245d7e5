"""Learning rates as pure functions of how far a training is (no torch)."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["wsd", "inverse_sqrt"]
# Of the budget, read while the rate falls to zero: within the 10 to 20 % of MiniCPM
# (https://arxiv.org/abs/2404.06395 §4) and of Hägele et al. (https://arxiv.org/abs/2405.18392 §4).
DECAY_PARTS = 5
# How slowly an inverse square root falls that has no warm-up to take its scale from, in steps.
STEPS_WITHOUT_WARM_UP = 10_000


def decay_begins(schedule: Schedule, budget: int) -> int:
    """After how many tokens rates depend on the budget: four fifths of it, or all of it where they never do."""
    return budget - budget // DECAY_PARTS if schedule == "wsd" else budget


def rate_share(schedule: Schedule, warm_up: int, step: int, tokens: int, budget: int) -> float:
    """The share of the peak rate that a step has, in (0, 1].

    step: counted from 0; tokens: read before it, fewer than `budget`. The first `warm_up` steps rise linearly to the
    peak. "wsd" then stays, and falls as 1 - sqrt(share of the decay that is read) over the last fifth of the budget
    (https://arxiv.org/abs/2405.18392 §4). "inverse_sqrt" falls with the root of the steps, from the peak at the end of
    the warm-up (https://arxiv.org/abs/1706.03762 §5.3).
    """
    risen = min((step + 1) / warm_up, 1.0) if warm_up else 1.0
    if schedule == "inverse_sqrt":
        scale = warm_up or STEPS_WITHOUT_WARM_UP
        return risen * math.sqrt(scale / (scale + max(step + 1 - warm_up, 0)))
    begins = decay_begins(schedule, budget)
    fallen = math.sqrt((tokens - begins) / (budget - begins)) if tokens > begins else 0.0
    return risen * (1.0 - fallen)
