"""Who is told of a training's progress, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from workers.training.progress import Progress

Tell = Callable[[Progress], None]


def unheard(progress: Progress) -> None:
    """Where progress goes that nobody asks for."""


def at_most_every(seconds: float, tell: Tell, clock: Callable[[], float] = time.monotonic) -> Tell:
    """A `tell` that drops what comes within these seconds of what it last handed on, but never a training's end."""
    told_at = -math.inf

    def now_and_then(progress: Progress) -> None:
        nonlocal told_at
        now = clock()
        if now - told_at >= seconds or progress.tokens >= progress.of:
            told_at = now
            tell(progress)

    return now_and_then
