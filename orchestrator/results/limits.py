"""What a study asks of a model as it ships: tokens a second and memory, as limits or as a third objective.

A model that was timed and breaks a limit may not stand on the frontier; one that was not timed yet is not judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from orchestrator.number_format import spell_bytes
from search_spaces.outcome import Speed

# What a study can have for a third objective, beside quality and bytes.
Third = Literal["speed", "memory"]
# Fewer tokens a second are no speed.
TOKENS_S = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a model's speed trial; None is no limit. And the third objective, which the same trial measures."""

    min_tokens_s: float | None = None
    """The least tokens a second."""
    max_memory: int | None = None
    """The most bytes of GPU memory at its peak."""
    batch: int = 64
    """Segments at a time in the study, which say at which of the timed batches tokens are counted."""
    third: Third | None = None
    """The study's third objective."""

    def __bool__(self) -> bool:
        return self.min_tokens_s is not None or self.max_memory is not None

    def cost(self, speed: Speed | None) -> float:
        """What a model of this speed costs in the third objective: seconds a token, or bytes of GPU memory at its peak.

        Infinite where that was not measured, so that nothing stands for a speed that nobody saw; 0 without such an
        objective.
        """
        if self.third is None:
            return 0.0
        if speed is None or speed.reason is not None:
            return math.inf
        if self.third == "speed":
            return 1.0 / max(speed.tokens_s[self.timed_batch(speed)], TOKENS_S)
        return math.inf if speed.peak_bytes is None else float(speed.peak_bytes)

    def timed_batch(self, speed: Speed) -> int:
        """The timed batch at which tokens are counted: the largest of no more segments than the study's."""
        return max((one for one in speed.tokens_s if one <= self.batch), default=min(speed.tokens_s))

    def broken(self, speed: Speed | None) -> tuple[str, ...]:
        """Why a model of this speed may not stand; empty where it may, and where it was not timed."""
        if speed is None or not self:
            return ()
        if speed.reason is not None:
            asked = " and ".join(self._asked())
            return (f"{asked} can't be shown, since it could not be timed: {speed.reason.rstrip('.')}",)
        return (*self._slow(speed), *self._large(speed))

    def _asked(self) -> list[str]:
        asked = [] if self.min_tokens_s is None else [f"{self.min_tokens_s:,.0f} tokens/s"]
        return asked + ([] if self.max_memory is None else [f"at most {spell_bytes(self.max_memory)} of memory"])

    def _slow(self, speed: Speed) -> tuple[str, ...]:
        if self.min_tokens_s is None:
            return ()
        batch = self.timed_batch(speed)
        made = speed.tokens_s[batch]
        if made >= self.min_tokens_s:
            return ()
        return (f"{made:,.0f} tokens/s at batch {batch}, and the study asks for {self.min_tokens_s:,.0f}",)

    def _large(self, speed: Speed) -> tuple[str, ...]:
        if self.max_memory is None:
            return ()
        if speed.peak_bytes is None:
            return ("its memory was not measured, since it ran on a CPU",)
        if speed.peak_bytes <= self.max_memory:
            return ()
        return (f"{spell_bytes(speed.peak_bytes)} of memory, and the study allows {spell_bytes(self.max_memory)}",)


NO_LIMITS = Limits()
