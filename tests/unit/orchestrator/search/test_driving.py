"""The driver's answers where trials don't end well, with a real ledger, store and proposer, and no Ray between them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from orchestrator.results.findings import TrialFinding
from orchestrator.search import faults as driving
from orchestrator.search.faults import Driving, spell_due
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.room import held_bytes
from orchestrator.statistics.frontier import Objectives
from search_spaces.methods.registry import step_to_json
from search_spaces.outcome import Failure, Speed
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, llama_table, measurement, trial
from tests.support.fakes import files_no_larger_than
from workers.failures.table import MachineFault
from workers.runtime.artefact_store import ENDED, TRAINING, ArtefactStore

FAULT = MachineFault("the network or the storage did not answer", "load", "OSError: [Errno 5]", "look after it", "host")


class Near:
    """An actor in this process: its answers are there at once."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._of, name))


class Quiet:
    """Keeps what a display is told of trials that ended."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def ended(self, *said: Any) -> None:
        self.told.append(said)


class Scene:
    """A search in a folder, two trials of which have ended."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        keep: str = "frontier",
        own: bool = True,
        limit: int | None = None,
        tied: bool = False,
    ) -> None:
        """tied: whether the beaten one is not told apart from the best."""
        monkeypatch.setattr(driving.ray, "get", lambda answer: answer)
        self.folder, self.store = folder, folder / "store"
        create_ledger(folder, {"spec": {}})
        self.writer = LedgerWriter(str(folder))
        self.proposer = Proposer(
            BASE,
            llama_table(),
            SPACES["bit-width"],
            trials=6,
            seed=0,
            worth=(lambda: [self.beaten.candidate.digest, self.best.candidate.digest]) if tied else None,
        )
        self.said = io.StringIO()
        self.shown = Quiet()
        progress: Any = self.shown
        self.driving = Driving(
            self.proposer,
            Near(self.writer),
            Console(file=self.said, width=300),
            progress=progress,
            nudge=lambda: None,
            store=self.store if own else None,
            limit=limit,
            keep=keep,
        )
        self.baseline = self.next(Objectives(60.0, 10_000))
        # Larger and worse than the next: off the frontier.
        self.beaten = self.next(Objectives(50.0, 6_000))
        self.best = self.next(Objectives(61.0, 5_000))

    def next(self, loss: Objectives | None) -> Proposal:
        proposal = self.proposer.propose()
        assert isinstance(proposal, Proposal)
        if proposal.candidate.steps:
            steps = [step_to_json(step) for step in proposal.candidate.steps]

            def build(out: Path) -> dict[str, Any]:
                (out / "model.safetensors").write_bytes(b"x" * 1000)
                return {"steps": steps}

            ArtefactStore(self.store).get(proposal.candidate.digest, build)
        if loss is not None:
            self.proposer.tell(proposal.number, TrialFinding(loss))
        return proposal

    def has(self, proposal: Proposal) -> bool:
        return ArtefactStore(self.store).find(proposal.candidate.digest) is not None


Make = Callable[..., Scene]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda **asked: Scene(tmp_path / "run", monkeypatch, **asked)


def test_a_full_disk_takes_what_is_off_the_frontier_and_nothing_that_is_needed(scene: Make) -> None:
    at = scene()
    under_way = at.next(None)
    (at.store / ".draft-left-0a").mkdir()
    (at.store / ".draft-left-0a" / "half").write_bytes(b"x" * 70)
    assert at.driving.make_room() == 1070
    assert not at.has(at.beaten) and at.has(at.best) and at.has(under_way)
    assert not (at.store / ".draft-left-0a").exists()
    assert "the disk is short: 1.00 kB of the store made room" in at.said.getvalue()
    assert at.driving.make_room() == 0


def checkpoints(store: Path, name: str, size: int, ended: bool) -> Path:
    folder = store / f"{TRAINING}{name}"
    (folder / "step-4").mkdir(parents=True)
    (folder / "step-4" / "state.safetensors").write_bytes(b"x" * size)
    if ended:
        (folder / ENDED).touch()
    return folder


def test_checkpoints_of_trainings_that_are_over_go_before_any_artefact(scene: Make) -> None:
    at = scene()
    over, running = (checkpoints(at.store, name, 5000, ended) for name, ended in (("a", True), ("b", False)))
    assert held_bytes(at.store) == 2 * 1000 + 2 * 5000
    assert at.driving.make_room() == 5000 and not over.exists() and running.exists() and at.has(at.beaten)
    assert at.driving.make_room() == 1000 and running.exists() and not at.has(at.beaten)


def test_checkpoints_count_for_the_limit_and_go_first(scene: Make) -> None:
    at = scene(limit=9000)
    over, running = (checkpoints(at.store, name, 4000, ended) for name, ended in (("a", True), ("b", False)))
    at.driving.room_for(at.best)
    assert running.exists() and at.has(at.beaten) and at.has(at.best)
    assert not over.exists()
    assert "the store's limit of 9.00 kB: 4.00 kB made room" in at.said.getvalue()


def test_what_is_to_be_kept_at_the_end_and_other_studies_stores_are_left_alone(scene: Make) -> None:
    at = scene(keep="all")
    assert at.driving.make_room() == 0 and at.has(at.beaten)


def test_a_shared_store_is_left_alone(scene: Make) -> None:
    at = scene(own=False)
    assert at.driving.make_room() == 0 and at.has(at.beaten)
    at.driving.room_for(at.best)
    assert at.has(at.beaten)


@pytest.mark.parametrize(("free", "goes"), [(10**12, False), (0, True)])
def test_room_is_made_before_a_trial_that_would_find_none(
    scene: Make, monkeypatch: pytest.MonkeyPatch, free: int, goes: bool
) -> None:
    at = scene()
    following = at.next(None)
    monkeypatch.setattr(driving.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free, total=10**12))
    at.driving.room_for(following)
    assert at.has(at.beaten) != goes and at.has(following) and at.has(at.best)


def test_a_store_within_its_limit_is_left_alone(scene: Make) -> None:
    at = scene(limit=10**12)
    at.driving.room_for(at.next(None))
    assert at.has(at.beaten) and at.has(at.best) and at.said.getvalue() == ""


def test_a_store_at_its_limit_gives_up_what_nobody_needs_and_then_what_can_be_made_again(scene: Make) -> None:
    # The trial under way has its artefact already, so that nothing is reserved: three of a thousand bytes are held.
    at = scene(limit=2500)
    following = at.next(None)
    at.driving.room_for(following)
    assert not at.has(at.beaten) and at.has(at.best) and at.has(following)
    assert "the store's limit of 2.50 kB: 1.00 kB made room" in at.said.getvalue()


@pytest.mark.parametrize(("limit", "goes"), [(2500, False), (1500, True)])
def test_what_is_not_told_apart_from_the_frontier_goes_after_what_nobody_needs(
    scene: Make, limit: int, goes: bool
) -> None:
    at = scene(limit=limit, tied=True)
    worse = at.next(Objectives(40.0, 7_000))
    at.driving.room_for(worse)
    assert not at.has(worse) and at.has(at.best)
    assert at.has(at.beaten) is not goes


def test_on_a_full_disk_ties_go_where_there_is_nothing_else(scene: Make) -> None:
    at = scene(tied=True)
    worse = at.next(Objectives(40.0, 7_000))
    assert at.driving.make_room() == 1000 and not at.has(worse) and at.has(at.beaten)
    assert at.driving.make_room() == 1000 and not at.has(at.beaten) and at.has(at.best)
    assert at.driving.make_room() == 0


def test_what_a_trial_under_way_stands_on_stays_beyond_the_limit_and_that_is_said(scene: Make) -> None:
    at = scene(limit=500)
    following = at.next(None)
    at.driving.room_for(following)
    assert not at.has(at.beaten) and not at.has(at.best) and at.has(following)
    assert "the store's limit is passed by 500 B: what runs now takes that much" in at.said.getvalue()


def test_bytes_are_reserved_before_they_are_written(scene: Make) -> None:
    at = scene(limit=2500)
    proposal = at.proposer.propose()
    assert isinstance(proposal, Proposal)
    at.driving.room_for(proposal)
    # Its artefact is larger than the limit, so everything else goes.
    assert not at.has(at.beaten) and not at.has(at.best)


def test_a_worker_lost_for_good_is_booked_with_its_last_words_and_a_machines_fault_is_not(scene: Make) -> None:
    at = scene()
    lost, stopped = at.next(None), at.next(None)
    at.writer.lose(lost.number, "the process's CUDA context can't be used any more (stage translate: …)", None)
    at.writer.lose(stopped.number, "…", FAULT.to_json())
    assert at.driving.on_lost(lost, 2, last=False) is None
    assert "attempt 3 follows" in at.said.getvalue()
    assert at.driving.on_lost(lost, 4, last=True) is None
    assert at.driving.on_lost(stopped, 4, last=True) == FAULT
    (record,) = read_ledger(at.folder).trials
    assert isinstance(record.outcome, Failure) and record.number == lost.number
    assert record.outcome.message.startswith("the worker was lost in each of 4 attempts; the process's CUDA context")


def test_a_ledger_that_cant_be_written_or_was_moved_is_the_machines_fault(scene: Make) -> None:
    at = scene()
    lost = at.next(None)
    with files_no_larger_than(10):
        full = at.driving.on_lost(lost, 4, last=True)
    assert isinstance(full, MachineFault) and full.what == "a file is larger than is allowed here"
    assert [one["number"] for one in at.writer.due()] == [lost.number]
    (at.folder / "ledger.jsonl").rename(at.folder / "elsewhere.jsonl")
    moved = at.driving.on_lost(lost, 4, last=True)
    assert isinstance(moved, MachineFault) and moved.what == "the ledger was moved or changed"


def test_what_could_not_be_written_is_said_with_its_figures() -> None:
    due = [
        trial(measurement(61.25, 900_000), number=3),
        trial(Failure("out_of_memory", "load", "too big"), number=4),
        trial(Speed({1: 20.0}), number=5, split="speed"),
    ]
    said = spell_due(due)
    assert said.startswith("Not written, and to be measured again: trial 3 on dev (chrf 61.25, ")
    assert "trial 4 on dev (out_of_memory), trial 5 on speed (speed). " in said
    assert spell_due([]) == ""


def test_a_halt_says_why_what_is_free_and_for_what_it_waits(scene: Make) -> None:
    at = scene()
    full = MachineFault("the disk is full", "compress", "OSError: [Errno 28]", "free some space there", "host", True)
    at.driving.on_halt(full, running=2)
    said = at.said.getvalue()
    assert "the search stops: the disk is full on host (stage compress: OSError: [Errno 28])" in said
    assert f"{at.store} has " in said and " free of " in said and "trials under way end first: 2" in said
