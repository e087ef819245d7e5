"""How the driver comes to know of trainings under way: it asks the ledger's actor, which their trials tell."""

from __future__ import annotations

from typing import Any

import ray

from orchestrator.training_progress import Trainings

# After so long an answer is left for the next time.
WAIT_SECONDS = 0.2


class Heard:
    """What the ledger's actor has last heard; asking takes no longer than WAIT_SECONDS."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._asked: Any = None
        self._known: Trainings = {}

    def __call__(self) -> Trainings:
        """The newest answer; while the actor is busy the one before, and none once it is lost."""
        if self._asked is None:
            self._asked = self._actor.trainings.remote()
        ready, _ = ray.wait([self._asked], timeout=WAIT_SECONDS)
        if ready:
            self._asked = None
            try:
                self._known = ray.get(ready[0])
            except ray.exceptions.RayActorError:
                # Only the display asks; the search itself hears of it where it needs the actor.
                self._known = {}
        return self._known
