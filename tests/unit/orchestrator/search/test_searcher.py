"""The adapter to Ray Tune: every proposal ends once, and a lost one is tried again a limited number of times."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from ray.tune.search import Searcher

from orchestrator.results.findings import TrialFinding
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.searcher import Budget, ParetoSearcher
from orchestrator.statistics.frontier import Objectives
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, llama_table
from workers.evaluation.trial_actor import report_fault
from workers.failures.table import MachineFault


class Losses:
    """Keeps what the searcher said of lost trials."""

    def __init__(self, kept: TrialFinding | MachineFault | None = None) -> None:
        self.told: list[tuple[int, int, bool]] = []
        self._kept = kept

    def __call__(self, proposal: Proposal, attempts: int, last: bool) -> TrialFinding | MachineFault | None:
        self.told.append((proposal.number, attempts, last))
        return self._kept if last else None


class Disk:
    """Frees so many bytes each time it is asked, and keeps what was said of a halt."""

    def __init__(self, *frees: int) -> None:
        self._frees = list(frees)
        self.halts: list[tuple[str, int]] = []

    def make_room(self) -> int:
        return self._frees.pop(0)

    def on_halt(self, fault: MachineFault, running: int) -> None:
        self.halts.append((fault.what, running))


def searcher(
    trials: int,
    retries: int,
    begun: int | MachineFault = 1000,
    kept: TrialFinding | MachineFault | None = None,
    disk: Disk | None = None,
) -> tuple[ParetoSearcher, Proposer, Losses]:
    """begun: attempts at each proposal that have begun; more than are made, so that each one that is lost had. kept:
    what the ledger holds of a lost one."""
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=trials, seed=0)
    losses = Losses(kept)
    disk = disk or Disk()
    search = ParetoSearcher(
        proposer, retries, on_lost=losses, begun=lambda proposal: begun, make_room=disk.make_room, on_halt=disk.on_halt
    )
    return search, proposer, losses


def measured(suggested: dict[str, Any], quality: float = 50.0) -> dict[str, Any]:
    return {"done": True, "number": suggested["number"], "failed": 0, "quality": quality, "bytes": 1000}


def suggest(search: ParetoSearcher, trial_id: str) -> dict[str, Any]:
    suggested = search.suggest(trial_id)
    assert isinstance(suggested, dict)
    return suggested


def test_a_lost_trial_is_proposed_again_under_its_number_before_anything_new() -> None:
    search, _, losses = searcher(trials=3, retries=2)
    first = suggest(search, "a")
    search.on_trial_complete("a", error=True)
    again = suggest(search, "b")
    assert again == first
    search.on_trial_complete("b", measured(again))
    assert suggest(search, "c")["number"] == 1
    assert losses.told == [(0, 1, False)]


def test_a_trial_lost_in_every_attempt_ends_as_a_failure() -> None:
    search, proposer, losses = searcher(trials=2, retries=1)
    search.on_trial_complete("a", measured(suggest(search, "a")))
    lost = suggest(search, "b")
    search.on_trial_complete("b", error=True)
    assert suggest(search, "c") == lost
    search.on_trial_complete("c", error=True)
    assert losses.told == [(1, 1, False), (1, 2, True)]
    assert search.suggest("d") == Searcher.FINISHED
    assert proposer.finished()


def test_a_worker_lost_before_the_trial_began_is_no_attempt_until_all_may_have_been() -> None:
    search, proposer, losses = searcher(trials=2, retries=1, begun=0)
    search.set_max_concurrency(2)
    for attempt in "abc":
        assert suggest(search, attempt)["number"] == 0
        search.on_trial_complete(attempt, error=True)
    assert losses.told == [] and not proposer.finished()
    suggest(search, "d")
    search.on_trial_complete("d", error=True)
    assert losses.told == [(0, 4, True)]


def test_a_trial_that_was_lost_after_it_had_been_measured_is_no_failure() -> None:
    search, proposer, losses = searcher(trials=2, retries=0, kept=TrialFinding(Objectives(60.0, 10_000)))
    suggest(search, "a")
    search.on_trial_complete("a", error=True)
    assert losses.told == [(0, 1, True)]
    assert not proposer.baseline_failed
    assert suggest(search, "b")["number"] == 1


def test_losses_before_and_after_a_trial_began_are_counted_apart() -> None:
    search, _, losses = searcher(trials=2, retries=1, begun=1)
    for attempt in "abcd":
        suggest(search, attempt)
        search.on_trial_complete(attempt, error=True)
    assert losses.told == [(0, 1, False), (0, 4, True)]


def test_a_result_without_numbers_counts_as_lost() -> None:
    search, _, losses = searcher(trials=2, retries=0)
    suggest(search, "a")
    search.on_trial_complete("a", {"time_total_s": 1.0})
    assert losses.told == [(0, 1, True)]


def test_a_trial_that_ends_after_a_rung_that_was_not_its_last_counts_as_lost() -> None:
    search, proposer, losses = searcher(trials=2, retries=0)
    number = suggest(search, "a")["number"]
    rung = {"done": False, "number": number, "failed": 0, "segments": 64}
    search.on_trial_result("a", rung)
    assert proposer.pending(number) is not None
    search.on_trial_complete("a", rung)
    assert losses.told == [(0, 1, True)]


def test_a_raced_trial_teaches_the_sampler_its_projected_quality_and_is_kept_off_the_frontier() -> None:
    search, proposer, _ = searcher(trials=2, retries=0)
    search.on_trial_complete("a", measured(suggest(search, "a"), quality=40.0))
    raced = suggest(search, "b")
    search.on_trial_complete("b", measured(raced, quality=45.0) | {"raced": 1, "sanity": [["empty", 0.25]]})
    assert [candidate.steps for candidate in proposer.frontier()] == [()]
    assert [trial.values for trial in proposer._study.trials if trial.values] == [[45.0, 1000.0]]


def test_a_failure_is_told_once_and_a_nan_is_one() -> None:
    search, proposer, losses = searcher(trials=2, retries=3)
    search.on_trial_complete("a", measured(suggest(search, "a")))
    search.on_trial_complete("b", measured(suggest(search, "b"), quality=float("nan")))
    assert losses.told == []
    assert proposer.finished()


def test_no_more_trials_are_suggested_than_may_run_side_by_side() -> None:
    search, _, _ = searcher(trials=4, retries=0)
    assert search.set_max_concurrency(2)
    first = suggest(search, "a")
    suggest(search, "b")
    assert search.suggest("c") is None
    search.on_trial_complete("a", measured(first))
    suggest(search, "c")


FULL = MachineFault("the disk is full", "compress", "OSError: [Errno 28]", "free some space", "host", room=True)
READ_ONLY = MachineFault("the file system is read-only", "compress", "OSError: [Errno 30]", "make it writable")


def faulty(suggested: dict[str, Any], fault: MachineFault) -> dict[str, Any]:
    return report_fault(suggested, fault)


def test_a_machines_fault_halts_the_search_and_is_booked_on_nobody() -> None:
    disk = Disk()
    search, proposer, losses = searcher(trials=4, retries=3, disk=disk)
    search.on_trial_complete("a", measured(suggest(search, "a")))
    one, two = suggest(search, "b"), suggest(search, "c")
    search.on_trial_complete("b", faulty(one, READ_ONLY))
    assert search.halted == READ_ONLY and disk.halts == [(READ_ONLY.what, 1)]
    assert search.suggest("d") == Searcher.FINISHED
    # What runs may end, and counts.
    search.on_trial_complete("c", measured(two, quality=55.0))
    assert losses.told == [] and not proposer.finished()
    assert proposer.pending(one["number"]) is not None and proposer.pending(two["number"]) is None
    assert not any(trial.state.name == "FAIL" for trial in proposer._study.trials)


def test_a_full_disk_waits_for_what_runs_makes_room_and_goes_on_with_the_same_trial() -> None:
    disk = Disk(1000, 1000)
    search, _, _ = searcher(trials=4, retries=0, disk=disk)
    search.on_trial_complete("a", measured(suggest(search, "a")))
    one, two = suggest(search, "b"), suggest(search, "c")
    search.on_trial_complete("b", faulty(one, FULL))
    assert search.suggest("d") is None
    search.on_trial_complete("c", faulty(two, FULL))
    again = suggest(search, "e")
    assert again == one and search.halted is None
    search.on_trial_complete("e", measured(again))
    assert suggest(search, "f") == two


@pytest.mark.parametrize(("frees", "tries"), [((0,), 1), ((1000, 0), 2), ((1000, 1000), 3)])
def test_a_disk_that_stays_full_halts_the_search(frees: tuple[int, ...], tries: int) -> None:
    disk = Disk(*frees)
    search, proposer, _ = searcher(trials=4, retries=0, disk=disk)
    search.on_trial_complete("a", measured(suggest(search, "a")))
    for attempt in range(tries):
        suggested = suggest(search, str(attempt))
        assert suggested["number"] == 1
        search.on_trial_complete(str(attempt), faulty(suggested, FULL))
    assert search.suggest("z") == Searcher.FINISHED
    assert search.halted == FULL and disk.halts == [(FULL.what, 0)]
    assert proposer.pending(1) is not None


def test_a_loss_that_was_the_machines_fault_halts_the_search_when_attempts_are_used_up() -> None:
    search, proposer, losses = searcher(trials=2, retries=1, kept=READ_ONLY)
    for attempt in "ab":
        suggest(search, attempt)
        search.on_trial_complete(attempt, error=True)
    assert losses.told == [(0, 1, False), (0, 2, True)] and search.halted == READ_ONLY
    assert search.suggest("c") == Searcher.FINISHED
    assert proposer.pending(0) is not None and not proposer.baseline_failed


def test_a_ledger_that_does_not_answer_halts_the_search() -> None:
    search, _, losses = searcher(trials=2, retries=1, begun=READ_ONLY)
    suggest(search, "a")
    search.on_trial_complete("a", error=True)
    assert search.halted == READ_ONLY and losses.told == []


def test_tune_may_pickle_it() -> None:
    search, _, _ = searcher(trials=1, retries=0)
    assert isinstance(pickle.loads(pickle.dumps(search)), ParetoSearcher)


def test_after_its_time_no_further_candidate_is_begun() -> None:
    now = [0.0]
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=10, seed=0)
    search = ParetoSearcher(
        proposer, 0, on_lost=Losses(), begun=lambda proposal: 1000, budget=Budget(60.0), clock=lambda: now[0]
    )
    search.set_max_concurrency(2)
    first, second = suggest(search, "0"), suggest(search, "1")
    now[0] = 59.0
    search.on_trial_complete("0", measured(first))
    third = suggest(search, "2")
    now[0] = 61.0
    search.on_trial_complete("1", measured(second))
    # One still runs, and may end.
    assert search.suggest("3") is None
    assert search.out_of == "hours"
    search.on_trial_complete("2", measured(third))
    assert search.suggest("4") == Searcher.FINISHED
    assert proposer.finished()


def test_a_search_that_is_over_before_its_time_says_nothing_of_it() -> None:
    now = [0.0]
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=1, seed=0)
    search = ParetoSearcher(
        proposer, 0, on_lost=Losses(), begun=lambda proposal: 1000, budget=Budget(60.0), clock=lambda: now[0]
    )
    search.on_trial_complete("0", measured(suggest(search, "0")))
    now[0] = 99.0
    assert search.suggest("1") == Searcher.FINISHED
    assert not search.out_of


def test_gpu_hours_are_those_that_trials_hold_side_by_side() -> None:
    now = [0.0]
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=10, seed=0)
    # Two trials at a time, half a GPU each.
    search = ParetoSearcher(
        proposer,
        0,
        on_lost=Losses(),
        begun=lambda proposal: 1000,
        budget=Budget(gpu_seconds=100.0, gpus=0.5),
        clock=lambda: now[0],
    )
    first, second = suggest(search, "0"), suggest(search, "1")
    now[0] = 60.0
    search.on_trial_complete("0", measured(first))
    # 60 seconds were held: half by the one that ended, half by the other.
    third = suggest(search, "2")
    now[0] = 90.0
    search.on_trial_complete("1", measured(second))
    assert not search.out_of
    suggest(search, "3")
    now[0] = 101.0
    assert search.suggest("4") is None
    assert search.out_of == "gpu_hours"
    search.on_trial_complete("2", measured(third))
    assert proposer.searching is False
