"""The adapter that lets Ray Tune ask our Proposer for trials; it never raises into Tune's loop over one bad result."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from orchestrator.frontier import Loss
from orchestrator.proposals import Proposal, Proposer


class ParetoSearcher(Searcher):
    """Tune's Searcher over a Proposer.

    record_lost is told of a trial that used up its attempts without an outcome, and puts that on the ledger before the
    Proposer hears of it. Nothing is saved or restored here: a resumed study gives the Proposer its ledger instead.
    """

    def __init__(self, proposer: Proposer, record_lost: Callable[[Proposal], None]) -> None:
        # The one number that a failed trial reports too; the objectives are read from the result here.
        super().__init__(metric="failed", mode="min")
        self._proposer = proposer
        self._record_lost = record_lost
        self._numbers: dict[str, int] = {}
        self._limit: int | None = None

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune's limit, kept here, so that it wraps no limiter around us."""
        self._limit = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A trial's config, None to be asked again later, or FINISHED."""
        if self._limit is not None and len(self._numbers) >= self._limit:
            return None
        proposal = self._proposer.propose()
        if proposal == "done":
            return str(Searcher.FINISHED)
        if proposal == "wait":
            return None
        self._numbers[trial_id] = proposal.number
        return proposal.to_json()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rungs are not raced yet: a trial reports once, when it is done."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the Proposer how the trial ended; an error or a result without numbers is a failure."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        proposal = self._proposer.pending(number)
        if proposal is not None and (error or result is None or "failed" not in result):
            self._record_lost(proposal)
            result = None
        self._proposer.tell(number, _loss(result))

    def save(self, checkpoint_path: str) -> None:
        """An empty file where Tune wants one: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher for a restore that this project does from the ledger instead."""
        return {}


def _loss(result: dict[str, Any] | None) -> Loss | None:
    if result is None or result["failed"] or not math.isfinite(result.get("quality", math.nan)):
        return None
    return Loss(result["quality"], result["bytes"])
