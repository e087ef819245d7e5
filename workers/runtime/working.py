"""How far the work of a step is, told from where it is done to who follows the trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Hears what is worked on, in words that a number follows, such as "quantizing, layer"; how many are done; of how many.
Follow = Callable[[str, int, int], None]


def _unfollowed(what: str, done: int, of: int) -> None:
    """Where it goes when nobody follows."""


_FOLLOW: ContextVar[Follow] = ContextVar("follow", default=_unfollowed)


def working(what: str, done: int, of: int) -> None:
    """Tell who follows how far the work is."""
    _FOLLOW.get()(what, done, of)


@contextmanager
def followed_by(follow: Follow) -> Iterator[None]:
    """Inside, `follow` hears of the work."""
    before = _FOLLOW.set(follow)
    try:
        yield
    finally:
        _FOLLOW.reset(before)


def now_and_then(seconds: float, follow: Follow, clock: Callable[[], float] = time.monotonic) -> Follow:
    """A `follow` that hears of what is begun, and then at most once in so many seconds."""
    told_at, told = 0.0, ""

    def hear(what: str, done: int, of: int) -> None:
        nonlocal told_at, told
        now = clock()
        if what != told or now - told_at >= seconds:
            told_at, told = now, what
            follow(what, done, of)

    return hear
