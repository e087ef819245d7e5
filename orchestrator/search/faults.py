"""What the driver does when trials end otherwise than well: lost workers, a full disk, a machine that is at fault."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from orchestrator.ledger.records import record_from_json
from orchestrator.number_format import spell_bytes
from orchestrator.progress.display import ProgressDisplay
from orchestrator.results.findings import Finding, finding_of, probe_of, speed_of
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.room import (
    Stored,
    half_made,
    make_room,
    may_go,
    needed_bytes,
    reserved_bytes,
    stored_artefacts,
    stored_trainings,
    within_limit,
)
from search_spaces.candidate import Candidate
from search_spaces.methods.family import Family
from search_spaces.outcome import Failure
from workers.evaluation.attempt import unless_machine
from workers.evaluation.trial_lines import EndedTrial
from workers.failures.table import MachineFault
from workers.runtime.artefact_store import ArtefactStore

log = logging.getLogger(__name__)


class Driving:
    """The searcher's answers from the world: the ledger's actor, the store's disk, the console.

    store: the study's own; None where other studies share it, whose artefacts are not ours to remove. limit: of the
    store, in bytes. keep: which artefacts are to stay at the end, as the study says.
    """

    def __init__(
        self,
        proposer: Proposer,
        actor: Any,
        console: Console,
        *,
        progress: ProgressDisplay,
        nudge: Callable[[], None],
        store: Path | None,
        limit: int | None,
        keep: str,
    ) -> None:
        self._proposer = proposer
        self._actor = actor
        self._console = console
        self._progress = progress
        self._nudge = nudge
        self._store = store
        self._limit = limit
        self._keep = keep

    def begun(self, proposal: Proposal) -> int | MachineFault:
        """How many attempts at the trial have begun."""
        return unless_machine(lambda: int(ray.get(self._actor.begun.remote(proposal.to_json()))), "ledger")

    def on_lost(self, proposal: Proposal, attempts: int, last: bool) -> Finding | MachineFault | None:
        """Say that a worker was lost; the last time put the Failure on the ledger, unless the machine was at fault.

        Returns what the trial found, should it have been lost after that.
        """
        if not last:
            what = proposal.candidate.describe() or "the baseline"
            self._say(f"the worker of {what} was lost; attempt {attempts + 1} follows")
            return None
        return unless_machine(lambda: self._booked(proposal, attempts), "ledger")

    def _booked(self, proposal: Proposal, attempts: int) -> Finding | MachineFault | None:
        why, fault = ray.get(self._actor.lost.remote(proposal.number))
        if fault is not None:
            return MachineFault(**fault)
        kept = record_from_json(ray.get(self._actor.append.remote(lost_line(proposal, attempts, why), [])))
        found = finding_of(kept.measurement)
        loss = found.loss if found else None
        self._progress.ended(proposal.number, loss and loss.quality, loss and loss.bytes)
        self._nudge()
        return found or probe_of(kept.outcome) or speed_of(kept.outcome)

    def room_for(self, proposal: Proposal) -> None:
        """Before a trial: where its candidate may not fit into the store's limit or on the disk, artefacts make room.

        First checkpoints of trainings that are over, then artefacts that nobody needs, then those that are not told
        apart from the frontier. For the limit then those of the frontier too, which are made again when they are
        wanted; what a trial under way stands on never goes.
        """
        if self._store is None or not self._store.is_dir() or not proposal.candidate.steps:
            return
        if self._limit is not None:
            unless_machine(self._keep_to_limit, "store")
        disk = shutil.disk_usage(self._store)
        wanted = needed_bytes(self._proposer.bytes_to_make(proposal.candidate), disk.total)
        if disk.free < wanted:
            self._remove(shared=False, wanted=wanted)

    def _keep_to_limit(self) -> None:
        assert self._store is not None and self._limit is not None
        pending, held = self._proposer.under_way(), stored_artefacts(self._store)
        reserved = reserved_bytes(held, pending, self._proposer.prefix_bytes)
        ended, others = stored_trainings(self._store)
        whole = [*held, *ended, *others]
        over = sum(one.bytes for one in whole) + reserved - self._limit
        if over <= 0:
            return
        needless, tied = self._dispensable(held, pending, shared=False)
        rest = [one for one in may_go(held, [], pending, shared=False) if one not in (*needless, *tied)]
        gone = within_limit(whole, [*ended, *needless, *tied, *rest], reserved, self._limit)
        if went := make_room(gone, self._store, wanted=None, beside=True):
            self._say(f"the store's limit of {spell_bytes(self._limit)}: {spell_bytes(went)} made room")
        over -= went
        if over > 0:
            self._say(f"the store's limit is passed by {spell_bytes(over)}: what runs now takes that much")

    def make_room(self) -> int:
        """On a full disk, while nothing runs: checkpoints of trainings that are over go; where there are none, whatever
        can be made again and nobody needs; where that is nothing, what is not told apart from the frontier. Returns
        its bytes."""
        if self._store is None or not self._store.is_dir():
            return 0
        before = half_made(self._store)
        unless_machine(ArtefactStore(self._store).sweep, "store")
        return before - half_made(self._store) + self._remove(shared=True, wanted=None)

    def on_halt(self, fault: MachineFault, running: int) -> None:
        """Say that the search stops, and for what it waits."""
        self._say(f"the search stops: {fault.said()}")
        if fault.room and self._store is not None and self._store.is_dir():
            disk = shutil.disk_usage(self._store)
            self._say(f"{self._store} has {spell_bytes(disk.free)} free of {spell_bytes(disk.total)}")
        if running:
            self._say(f"trials under way end first: {running}")

    def on_family(self, family: Family, failure: Failure) -> None:
        """Say that no further member of the family is tried, and why."""
        self._say(f"{family.describe()} is not tried any more: this model can't take it ({failure.message})")

    def _remove(self, shared: bool, wanted: int | None) -> int:
        store = self._store
        assert store is not None

        def removed() -> int:
            needless, tied = self._dispensable(stored_artefacts(store), self._proposer.under_way(), shared)
            ended, _ = stored_trainings(store)
            # Without a figure all of a choice goes: no more of them than has to.
            return make_room(
                (ended or needless or tied) if wanted is None else [*ended, *needless, *tied], store, wanted
            )

        went = unless_machine(removed, "store")
        if isinstance(went, MachineFault):
            log.warning("%s can't be cleared: %s", store, went.message)
            return 0
        if went:
            self._say(f"the disk is short: {spell_bytes(went)} of the store made room")
        return went

    def _dispensable(
        self, held: Sequence[Stored], pending: Sequence[Candidate], shared: bool
    ) -> tuple[list[Stored], list[Stored]]:
        """What nobody needs; and what is not told apart from the frontier, and would be made again to be scored on
        held-out data, timed and kept."""
        whole = self._whole()
        needless = may_go(held, [*whole, *self._proposer.standing()], pending, shared)
        return needless, [one for one in may_go(held, whole, pending, shared=False) if one not in needless]

    def _whole(self) -> list[Candidate]:
        kept = self._proposer.measured() if self._keep == "all" else self._proposer.frontier()
        return [*kept, *self._proposer.control_candidates()]

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def lost_line(proposal: Proposal, attempts: int, why: str) -> EndedTrial:
    """The ledger line of a trial whose worker was lost in every attempt. why: what the last one said, if it did."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = why or "Tune's folder has its error"
    failure = Failure("lost", "run", f"the worker was lost in each of {attempts} attempts; {said}")
    return {
        **proposal.to_json(),
        "outcome": failure.to_json(),
        "attempt": attempts,
        "started": now,
        "ended": now,
        "worker": "",
    }


def spell_due(trials: list[EndedTrial]) -> str:
    """Which outcomes could not be written, and what they were; empty for none."""
    said = [f"trial {trial['number']} on {trial['split']} ({_spell_outcome(trial['outcome'])})" for trial in trials]
    if not said:
        return ""
    return f"Not written, and to be measured again: {', '.join(said)}. "


def _spell_outcome(outcome: Mapping[str, Any]) -> str:
    if outcome["kind"] != "measurement":
        return str(outcome["reason"] if outcome["kind"] == "failure" else outcome["kind"])
    metric, by_pair = next(iter(outcome["scores"].items()))
    quality = sum(score["value"] for score in by_pair.values()) / len(by_pair)
    return f"{metric} {quality:.2f}, {spell_bytes(outcome['footprint']['bytes'])}"
