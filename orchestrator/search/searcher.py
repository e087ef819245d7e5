"""The adapter that lets Ray Tune ask our Proposer for trials; it never raises into Tune's loop over one bad result."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from orchestrator.results.findings import Finding, failure_in, finding_in, probe_in, speed_in
from orchestrator.search.proposals import Proposal, Proposer
from search_spaces.methods.family import Family
from search_spaces.outcome import Failure
from workers.failures.table import MachineFault
from workers.plan.evaluation_plan import PROFILE_SPLIT, SPEED_SPLIT

# How often room is made without a trial that ends well in between.
MOST_ROOMS = 2
# What reads the result of a trial on a split that is not scored.
READ_BY_SPLIT: Mapping[str, Callable[[Mapping[str, Any]], Finding | None]] = {
    PROFILE_SPLIT: probe_in,
    SPEED_SPLIT: speed_in,
}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may take before it begins no further candidate; None is no limit.

    seconds: by the clock, from its start. gpu_seconds: of GPUs that its trials hold, gpus each, those of an earlier
    driver's taken off.
    """

    seconds: float | None = None
    gpu_seconds: float | None = None
    gpus: float = 1.0


class ParetoSearcher(Searcher):
    """Tune's Searcher over a Proposer.

    A trial that ends in an error (its worker was lost, or raised a fault of its own) is proposed again, as a new trial
    of Tune's, until it has had `retries` further attempts: Tune's own retries give a trial up whose worker dies between
    two trials (its reset fails twice at once). A loss before the trial had begun is the fault of what its worker did
    before, and is no attempt, unless there are more of them than retries and workers. begun: how many attempts at a
    proposal have begun. on_lost is told of each loss that counts, with the attempts so far and whether it was the last;
    by then it puts the Failure on the ledger, and answers what the ledger holds already of a trial that was lost after
    it had been measured, or the machine's fault that was the reason.

    The machine's fault of a trial is told to nobody: the trial stays proposed. A full disk waits until nothing
    runs, has make_room free what it can, in bytes, and goes on, at most MOST_ROOMS times between two trials that
    end well; any other fault, or no room, halts the search: nothing more is suggested, and what runs may end.
    room_for: is asked before each trial to see to its room while others run. on_family: hears of a family that a
    failure takes out. budget: when it is spent but for what control arms take (`kept_free`, in seconds), no further
    candidate is begun on dev; `out_of` then says of what. Once all of it is spent, no control arm is begun.
    Nothing is saved or restored here: a resumed study gives the Proposer its ledger instead.
    """

    def __init__(
        self,
        proposer: Proposer,
        retries: int,
        *,
        on_lost: Callable[[Proposal, int, bool], Finding | MachineFault | None],
        begun: Callable[[Proposal], int | MachineFault],
        make_room: Callable[[], int] = lambda: 0,
        room_for: Callable[[Proposal], None] = lambda proposal: None,
        on_halt: Callable[[MachineFault, int], None] = lambda fault, running: None,
        on_family: Callable[[Family, Failure], None] = lambda family, failure: None,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # The one number that a failed trial reports too; the objectives are read from the result here.
        super().__init__(metric="failed", mode="min")
        self._proposer = proposer
        self._retries = retries
        self._on_lost = on_lost
        self._begun = begun
        self._make_room = make_room
        self._room_for = room_for
        self._on_halt = on_halt
        self._on_family = on_family
        self._clock = clock
        self._budget = budget or Budget()
        self._started = clock()
        self._began: dict[str, float] = {}
        self._held = 0.0
        self.out_of = ""
        self.kept_free = 0.0
        self._losses: Counter[int] = Counter()
        self._unbegun: Counter[int] = Counter()
        self._numbers: dict[str, int] = {}
        self._limit: int | None = None
        self._full: MachineFault | None = None
        self._rooms = 0
        self.halted: MachineFault | None = None

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune's limit, kept here, so that it wraps no limiter around us."""
        self._limit = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A trial's config, None to be asked again later, or FINISHED."""
        if self._full is not None and not self._numbers:
            self._make_room_or_halt(self._full)
        if self.halted is not None:
            return str(Searcher.FINISHED)
        if self._full is not None:
            return None
        if self._limit is not None and len(self._numbers) >= self._limit:
            return None
        proposal = self._proposer.propose(self._keep_to_budget())
        if proposal == "done":
            return str(Searcher.FINISHED)
        if proposal == "wait":
            return None
        self._room_for(proposal)
        self._numbers[trial_id] = proposal.number
        self._began[trial_id] = self._clock()
        return {**proposal.to_json()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a rung that ended no trial says nothing yet."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the Proposer how the trial ended, or have it tried again."""
        number = self._numbers.pop(trial_id, None)
        self._held += self._clock() - self._began.pop(trial_id, self._clock())
        proposal = None if number is None else self._proposer.pending(number)
        if number is None or proposal is None:
            return
        # A trial that ends without an error after a rung that was not its last has been lost too.
        if error or result is None or "failed" not in result or not result["done"]:
            self._lose(proposal)
        elif "fault" in result:
            self._proposer.propose_again(number)
            self._take(MachineFault(**json.loads(result["fault"])))
        else:
            self._rooms = 0
            failure = failure_in(result)
            found = READ_BY_SPLIT.get(proposal.split, finding_in)(result)
            family = self._proposer.tell(number, found, failure)
            if family is not None and failure is not None:
                self._on_family(family, failure)

    def _keep_to_budget(self) -> float:
        """End the search on dev while what the control arms take is left, and begin none of them once nothing is.

        Answers how many seconds a trial may take that begins now, what the control arms take being kept free.
        """
        left = self._left()
        if not left:
            return math.inf
        least, kept_free = min(left.values()), 0.0
        if self._proposer.searching:
            kept_free = self._proposer.control_seconds
            if least <= kept_free:
                self._proposer.stop_searching()
                self.out_of = next(name for name, seconds in left.items() if seconds <= kept_free)
                self.kept_free = kept_free
        if not self._proposer.searching and least <= 0.0:
            self._proposer.leave_out_controls()
        return least - kept_free

    def _left(self) -> dict[str, float]:
        """Seconds of a trial that are left of each limit of the budget, `hours` and `gpu_hours`; {} without one."""
        budget, now = self._budget, self._clock()
        left: dict[str, float] = {}
        if budget.seconds is not None:
            left["hours"] = self._started + budget.seconds - now
        if budget.gpu_seconds is not None:
            held = self._held + sum(now - began for began in self._began.values())
            left["gpu_hours"] = budget.gpu_seconds / budget.gpus - held
        return left

    def _lose(self, proposal: Proposal) -> None:
        number = proposal.number
        begun = self._begun(proposal)
        if isinstance(begun, MachineFault):
            self._halt(begun)
            return
        counts = begun > self._losses[number]
        (self._losses if counts else self._unbegun)[number] += 1
        last = self._losses[number] > self._retries or self._unbegun[number] > self._retries + (self._limit or 1)
        found = None
        if counts or last:
            found = self._on_lost(proposal, self._losses[number] + (0 if counts else self._unbegun[number]), last)
        if isinstance(found, MachineFault):
            self._halt(found)
        elif last:
            self._proposer.tell(number, found)
        else:
            self._proposer.propose_again(number)

    def _take(self, fault: MachineFault) -> None:
        if fault.room and self._rooms < MOST_ROOMS:
            self._full = fault
        else:
            self._halt(fault)

    def _make_room_or_halt(self, fault: MachineFault) -> None:
        self._full = None
        self._rooms += 1
        if not self._make_room():
            self._halt(fault)

    def _halt(self, fault: MachineFault) -> None:
        if self.halted is None:
            self.halted = fault
            self._on_halt(fault, len(self._numbers))

    def save(self, checkpoint_path: str) -> None:
        """An empty file where Tune wants one: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher for a restore that this project does from the ledger instead."""
        return {}
