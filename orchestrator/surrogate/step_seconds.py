"""What making each option of each axis takes: as the profile saw it, then as trials did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.spaces.axes import TRAINING
from search_spaces.spaces.training_suggestions import WholeTraining

# An axis and its option's number.
Option = tuple[str, int]
Seconds = Mapping[Option, float]

# Before one was made: mixed widths take so many times what a uniform one does.
MIXED_TAKES = 4.0
# Tokens a second of a training, before one was seen and where nothing else is known; what targets by beams take over
# others (half a billion parameters, H200: 5 minutes to translate what is then trained on for 2).
TRAINS_TOKENS_S, BEAMS_TAKE = 15_000.0, 3.5


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds by option.

    axes: the options of each axis, the first of which takes nothing. is_dear: whether an option takes many times what
    the others of its axis do. trainings: for each option of the axis that trains how it does. probed: what the profile
    saw, and `learnt` what trials did: that goes before. tokens_s: of a training, before one was seen.
    """

    axes: Mapping[str, Sequence[Any]]
    is_dear: Callable[[Any], bool]
    trainings: Sequence[WholeTraining | None]
    tokens_s: float = TRAINS_TOKENS_S
    probed: dict[Option, float] = field(default_factory=dict)
    learnt: dict[Option, float] = field(default_factory=dict)

    def of(self, axis: str, profile_only: bool = False) -> list[float]:
        """What each option of the axis takes: as it was seen, or as the nearest of its kind that was."""
        seen = self.probed if profile_only else {**self.probed, **self.learnt}
        known = {at: seconds for (name, at), seconds in seen.items() if name == axis}
        return self._of_training(known) if axis == TRAINING else self._of_steps(axis, known)

    def _of_steps(self, axis: str, known: Mapping[int, float]) -> list[float]:
        options = self.axes[axis]
        found = [0.0] * len(options)
        for at in range(1, len(options)):
            alike = [one for one in known if self.is_dear(options[one]) == self.is_dear(options[at])]
            if alike:
                found[at] = known[min(alike, key=lambda one: abs(one - at))]
            elif known:
                found[at] = MIXED_TAKES * max(known.values())
        return found

    def _of_training(self, known: Mapping[int, float]) -> list[float]:
        """By the tokens a second of the trainings that were seen."""
        work = [0.0 if how is None else how.tokens * (BEAMS_TAKE if how.by_beams else 1.0) for how in self.trainings]
        seen = {at: seconds for at, seconds in known.items() if seconds > 0.0}
        rate = sum(work[at] for at in seen) / sum(seen.values()) if seen else self.tokens_s
        return [known.get(at, one / rate) for at, one in enumerate(work)]
