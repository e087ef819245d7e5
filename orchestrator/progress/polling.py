"""How the driver comes to know of what trials tell while they run: it asks the ledger's actor, which they tell."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import ray

# After so long an answer is left for the next time; longer where that would come too late.
WAIT_SECONDS, LATE_SECONDS = 0.2, 2.0

Answer = TypeVar("Answer")


class TrainingPoller(Generic[Answer]):
    """What the ledger's actor has last heard; asking takes no longer than it may wait."""

    def __init__(self, method: Any, nothing: Answer, wait: float | None = None) -> None:
        """method: the actor's, without arguments. nothing: what it would answer had it heard of nothing. wait: for an
        answer, in seconds; None is WAIT_SECONDS."""
        self._method = method
        self._nothing = nothing
        self._wait = wait
        self._asked: Any = None
        self._known = nothing

    def __call__(self) -> Answer:
        """The newest answer; while the actor is busy the one before, and nothing once it is lost."""
        if self._asked is None:
            self._asked = self._method.remote()
        ready, _ = ray.wait([self._asked], timeout=WAIT_SECONDS if self._wait is None else self._wait)
        if ready:
            self._asked = None
            try:
                self._known = ray.get(ready[0])
            except ray.exceptions.RayActorError:
                # Only the display asks; the search itself hears of it where it needs the actor.
                self._known = self._nothing
        return self._known
