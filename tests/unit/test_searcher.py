"""The adapter to Ray Tune: every proposal ends once, and a lost one is tried again a limited number of times."""

from __future__ import annotations

import pickle
from typing import Any

from ray.tune.search import Searcher

from orchestrator.findings import Finding
from orchestrator.frontier import Loss
from orchestrator.proposals import Proposal, Proposer
from orchestrator.searcher import ParetoSearcher
from search_spaces.spaces import SPACES
from tests.examples import BASE, llama_table


class Losses:
    """Keeps what the searcher said of lost trials."""

    def __init__(self, kept: Finding | None = None) -> None:
        self.told: list[tuple[int, int, bool]] = []
        self._kept = kept

    def __call__(self, proposal: Proposal, attempts: int, last: bool) -> Finding | None:
        self.told.append((proposal.number, attempts, last))
        return self._kept


def searcher(
    trials: int, retries: int, begun: int = 1000, kept: Finding | None = None
) -> tuple[ParetoSearcher, Proposer, Losses]:
    """begun: attempts at each proposal that have begun; more than are made, so that each one that is lost had. kept:
    what the ledger holds of a lost one."""
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials, seed=0)
    losses = Losses(kept)
    return ParetoSearcher(proposer, retries, losses, lambda proposal: begun), proposer, losses


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
    search, proposer, losses = searcher(trials=2, retries=0, kept=Finding(Loss(60.0, 10_000)))
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


def test_tune_may_pickle_it() -> None:
    search, _, _ = searcher(trials=1, retries=0)
    assert isinstance(pickle.loads(pickle.dumps(search)), ParetoSearcher)
