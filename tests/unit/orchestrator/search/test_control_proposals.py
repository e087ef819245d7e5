"""When control arms are proposed: after the search, once each, within its hours, and never as one of its trials."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from orchestrator.ledger.records import TrialRecord
from orchestrator.results.findings import TrialFinding
from orchestrator.results.limits import Limits
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.searcher import Budget, ParetoSearcher
from orchestrator.statistics.frontier import Objectives
from search_spaces.candidate import Candidate
from search_spaces.methods.family import Family
from search_spaces.methods.quantizers import RTN, BitsAndBytes
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune, Recover
from search_spaces.outcome import Failure
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE
from tests.unit.orchestrator.search.test_proposals import CHECKPOINT, Run, record

AWARE = Finetune(tokens=1000, loss="references")
GIVEN: tuple[tuple[Step, ...], ...] = (
    (RTN(bits=3), AWARE),
    (RTN(bits=8), Recover(loss="references")),
    (BitsAndBytes(format="nf4"), Recover(loss="references")),
)
ARMS = (AWARE,), (Recover(loss="references"),)
QUALITY = {3: 59.5, 8: 60.5}


def losses(proposal: Proposal) -> Objectives:
    """Of 60: trained at 3 bits 99.2 %, at 8 bits more than all, at 4 bits 90 %; the control arms 61."""
    steps = proposal.candidate.steps
    if not steps:
        return Objectives(60.0, proposal.predicted_bytes)
    if steps in ARMS:
        return Objectives(61.0, proposal.predicted_bytes)
    trained = steps[-1].kind == "trainer"
    quality = QUALITY.get(getattr(steps[0], "bits", 0), 54.0) if trained else 50.0 - proposal.number / 100
    return Objectives(quality, proposal.predicted_bytes)


def proposer(
    arms: int, trials: int = 5, held_out: bool = True, known: Iterable[TrialRecord] = (), given: Any = GIVEN
) -> Proposer:
    return Proposer(
        BASE,
        CHECKPOINT,
        SPACES["bit-width"],
        trials=trials,
        seed=0,
        given=given,
        held_out=held_out,
        known=known,
        control_arms=arms,
    )


def of(began: Iterable[Proposal], split: str) -> list[tuple[Step, ...]]:
    return [one.candidate.steps for one in began if one.split == split]


@pytest.mark.parametrize("side_by_side", [1, 3])
@pytest.mark.parametrize(("arms", "expected"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_the_smallest_at_99_has_the_first_arm_and_each_training_one(
    arms: int, expected: int, side_by_side: int
) -> None:
    run = Run(proposer(arms), losses, side_by_side).to_the_end()
    assert of(run.began, "control") == list(ARMS[:expected])
    assert sorted(map(str, of(run.began, "control_test"))) == sorted(map(str, ARMS[:expected]))
    splits = [one.split for one in run.began]
    assert splits.count("dev") == 5, "an arm is none of the study's trials"
    assert all(split != "dev" for split in splits[5:])
    assert run.of.finished()
    assert all(steps not in of(run.began, "test") for steps in ARMS), "and never stands on the frontier"
    assert not any(candidate.steps in ARMS for candidate in (*run.of.frontier(), *run.of.standing()))


def test_where_a_limit_takes_a_trained_point_off_what_takes_its_place_has_an_arm_too() -> None:
    slow: set[str] = set()

    def worth() -> list[str]:
        """The baseline and the trained points that keep the limits."""
        tried = [one.candidate for one in search.began if one.split == "dev" and one.candidate.steps in GIVEN]
        return [Candidate(BASE).digest, *(one.digest for one in tried if one.digest not in slow)]

    def timed(proposal: Proposal) -> Objectives:
        if proposal.split == "speed" and proposal.candidate.steps == GIVEN[0]:
            slow.add(proposal.candidate.digest)
        return losses(proposal)

    limited = Proposer(
        BASE,
        CHECKPOINT,
        SPACES["bit-width"],
        trials=5,
        seed=0,
        given=GIVEN,
        held_out=True,
        speed=True,
        worth=worth,
        control_arms=1,
        limits=Limits(1.0),
    )
    search = Run(limited, timed)
    search.to_the_end()
    assert of(search.began, "control") == of(search.began, "control_test") == list(ARMS)
    assert all(steps not in of(search.began, "speed") for steps in ARMS), "an arm is not timed"
    assert limited.finished()


def test_where_none_keeps_99_percent_the_best_quality_has_the_arm() -> None:
    given = ((RTN(bits=4), AWARE), (BitsAndBytes(format="nf4"), Recover(loss="references")))

    def poor(proposal: Proposal) -> Objectives:
        steps = proposal.candidate.steps
        quality = {(): 60.0, given[0]: 55.0, given[1]: 54.0}.get(steps, 40.0)
        return Objectives(quality, proposal.predicted_bytes)

    assert of(Run(proposer(1, 3, given=given), poor).to_the_end().began, "control") == [(AWARE,)]


def test_without_held_out_data_an_arm_has_dev_alone_and_untrained_studies_none() -> None:
    run = Run(proposer(2, held_out=False), losses).to_the_end()
    assert len(of(run.began, "control")) == 2 and not of(run.began, "control_test")
    assert not of(Run(proposer(2, given=((RTN(bits=3),),)), losses).to_the_end().began, "control")


@pytest.mark.parametrize("seed", range(6))
def test_a_search_cut_anywhere_makes_each_arm_once(seed: int) -> None:
    whole = Run(proposer(2), losses).to_the_end()
    cut = random.Random(seed).randrange(len(whole.ended))
    known = whole.ended[:cut]
    again = Run(proposer(2, known=known), losses, side_by_side=2).to_the_end()
    keys = [one.key for one in (*known, *again.ended)]
    assert len(keys) == len(set(keys)) and set(keys) == {one.key for one in whole.ended}
    assert again.of.finished()


def test_a_finished_study_without_its_arm_gets_it_once() -> None:
    before = Run(proposer(0), losses).to_the_end()
    assert proposer(0, known=before.ended).propose() == "done"
    added = Run(proposer(1, known=before.ended), losses).to_the_end()
    assert [one.split for one in added.began] == ["control", "control_test"]
    assert proposer(1, known=[*before.ended, *added.ended]).propose() == "done"


def test_what_the_search_has_measured_itself_is_not_measured_again() -> None:
    run = Run(proposer(1, trials=6, given=(*GIVEN, (AWARE,))), losses).to_the_end()
    assert not of(run.began, "control")
    assert of(run.began, "control_test") == ([] if (AWARE,) in of(run.began, "test") else [(AWARE,)])


def test_an_arm_that_fails_is_not_held_out_and_binds_no_candidate() -> None:
    run = Run(proposer(1), lambda one: None if one.split == "control" else losses(one)).to_the_end()
    assert of(run.began, "control") == [(AWARE,)] and not of(run.began, "control_test")
    assert run.of.finished()
    of_arm = proposer(1, known=[one for one in run.ended if one.split != "control"])
    proposal = of_arm.propose()
    assert isinstance(proposal, Proposal) and proposal.split == "control"
    failure = Failure("unsupported", "compress", "no", family=Family("finetune", {}, ()))
    assert of_arm.tell(proposal.number, None, failure) is None


def test_a_failed_baseline_has_no_arm() -> None:
    assert [one.split for one in Run(proposer(1), lambda one: None).to_the_end().began] == ["dev"]


def budgeted(hours: float, now: list[float]) -> tuple[ParetoSearcher, Proposer]:
    of_search = proposer(1, trials=5)
    return (
        ParetoSearcher(
            of_search,
            0,
            on_lost=lambda proposal, attempts, last: None,
            begun=lambda proposal: 1000,
            budget=Budget(hours),
            clock=lambda: now[0],
        ),
        of_search,
    )


def drive(search: ParetoSearcher, now: list[float], takes: dict[str, float]) -> list[str]:
    """Splits in the order in which they were begun, one at a time."""
    splits = []
    for number in range(20):
        config = search.suggest(str(number))
        if not isinstance(config, dict):
            return splits
        splits.append(config["split"])
        now[0] += takes[config["split"]]
        proposal = search._proposer.pending(config["number"])
        assert proposal is not None
        found = losses(proposal)
        told = {"quality": found.quality, "bytes": found.bytes, "seconds": takes[config["split"]]}
        search.on_trial_complete(str(number), {"done": True, "number": config["number"], "failed": 0, **told})
    raise AssertionError("it does not end")


def test_a_search_on_a_budget_keeps_the_arms_time_free() -> None:
    now = [0.0]
    search, of_search = budgeted(40.0, now)
    takes = {"dev": 10.0, "control": 10.0, "test": 1.0, "control_test": 1.0}
    # Baseline and two trained ones are 30 seconds; a fourth would leave nothing for the arm.
    splits = drive(search, now, takes)
    assert splits[:4] == ["dev", "dev", "dev", "control"] and splits.count("control_test") == 1
    assert (search.out_of, search.kept_free) == ("hours", 10.0)
    assert not of_search.left_out_controls


def test_an_arm_for_which_no_time_is_left_is_left_out_and_named() -> None:
    now = [0.0]
    search, of_search = budgeted(25.0, now)
    takes = {"dev": 20.0, "control": 10.0, "test": 1.0, "control_test": 1.0}
    splits = drive(search, now, takes)
    assert "control" not in splits and splits[:2] == ["dev", "dev"] and "test" in splits
    assert [candidate.steps for candidate in of_search.left_out_controls] == [(AWARE,)]
    assert of_search.finished()


def test_the_arms_share_of_the_seconds_is_that_of_the_trial_whose_training_it_repeats() -> None:
    of_search = proposer(1)
    assert of_search.control_seconds == 0.0
    for seconds in (1.0, 7.0):
        proposal = of_search.propose()
        assert isinstance(proposal, Proposal)
        of_search.tell(proposal.number, TrialFinding(losses(proposal), seconds=seconds))
    assert of_search.control_seconds == 7.0
    assert record(proposal, losses(proposal)).split == "dev"
