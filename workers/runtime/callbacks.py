"""Who is told of what a trial does and of a training's progress, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.runtime.training_progress import Progress

ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Doing:
    """What a trial does."""

    stage: str
    """As `Stages` has it."""
    done: int = 0
    of: int = 0
    """Segments or, with `what`, parts of that, where they are counted; else 0."""
    what: str = ""
    """The work within the stage, in words that a number follows, such as "quantizing, layer"."""


def ignore_progress(progress: Progress) -> None:
    """Where progress goes that nobody asks for."""


def at_most_every(
    seconds: float, tell: ProgressCallback, clock: Callable[[], float] = time.monotonic
) -> ProgressCallback:
    """A `tell` that drops what comes within these seconds of what it last handed on, but never a training's end."""
    told_at = -math.inf

    def now_and_then(progress: Progress) -> None:
        nonlocal told_at
        now = clock()
        if now - told_at >= seconds or progress.tokens >= progress.of:
            told_at = now
            tell(progress)

    return now_and_then


def counting(
    seconds: float, stage: str, of: int, tell: Callable[[Doing], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """Tells how many of a stage's segments are done, at most once in so many seconds."""
    told_at = -math.inf

    def now_and_then(done: int) -> None:
        nonlocal told_at
        now = clock()
        if now - told_at >= seconds:
            told_at = now
            tell(Doing(stage, done, of))

    return now_and_then
