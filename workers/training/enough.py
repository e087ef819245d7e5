"""Whether a training has steps enough to do anything, before it and afterwards (no torch)."""

from __future__ import annotations

import math

from search_spaces.methods.trainers import Trainer
from workers.runtime.training_progress import MADE_WORSE

# Below so many updates nothing much is learnt, at any rate that a model survives.
FEWEST_STEPS = 50
# Warm-ups a training should have room for.
WARM_UPS = 5
# What a note of a training that is too short begins with.
TOO_SHORT = "too short to learn"
# What is smaller than half of the last digit that people quote is no change.
MEASURABLE_CHRF = 0.05
CHANGED_NOTHING = "changed nothing measurable"
# Beginnings of notes that a person should see without looking for them.
TROUBLES = (MADE_WORSE, TOO_SHORT, CHANGED_NOTHING)


def too_short(step: Trainer, steps: float, tokens_a_step: float, about: str = "") -> str | None:
    """What is to be said of a training of so many optimizer steps, with the budget that would do; None where there are
    enough. about: put before the count, where it is estimated."""
    enough = max(FEWEST_STEPS, WARM_UPS * step.warm_up)
    least = max(FEWEST_STEPS, step.warm_up)
    if steps >= least:
        return None
    said = f"{TOO_SHORT}: {about}{math.ceil(steps)} optimizer steps"
    if steps < step.warm_up:
        peak = f"{steps / step.warm_up:.0%} of its peak"
        said += f" are fewer than the {step.warm_up} of the warm-up, so that the rate gets no further than {peak}"
    else:
        said += f" are fewer than {FEWEST_STEPS}"
    tokens = _two_digits(enough * tokens_a_step)
    return f"{said}; give {step.name} about {tokens:,} tokens, smaller batches or a shorter warm_up"


def changed_nothing(before: float, after: float) -> bool:
    """Whether validation chrF before and after a training is the same but for what nobody would quote."""
    return abs(after - before) < MEASURABLE_CHRF


def _two_digits(number: float) -> int:
    """Rounded up to two digits."""
    digits: int = 10 ** max(math.floor(math.log10(max(number, 1.0))) - 1, 0)
    return math.ceil(number / digits) * digits
