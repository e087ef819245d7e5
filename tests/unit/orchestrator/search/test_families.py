"""Families of candidates: what a failure says of others, and what is not tried any more."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import pytest

from orchestrator.results.findings import TrialFinding, failure_in
from orchestrator.search.families import Families
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.statistics.frontier import Objectives
from search_spaces.errors import CandidateError, StudyError, UnsupportedStep
from search_spaces.methods.family import Family, family_from_json
from search_spaces.methods.pruners import RemoveChannels, RemoveLayers
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, outcome_from_json
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, llama_table
from tests.unit.orchestrator.search.test_proposals import CHECKPOINT, record
from workers.evaluation.trial_actor import report
from workers.failures.blame import CarryingOut
from workers.failures.table import EmptyOutput, as_failure
from workers.failures.training import TrainingDiverged

CHANNELS, LAYERS = RemoveChannels(share=0.25), RemoveLayers(count=1)
RTN4, GPTQ4 = RTN(bits=4), GPTQ(bits=4)


def failure_of(error: Exception, *steps: Step) -> Failure:
    with pytest.raises(type(error)) as caught, CarryingOut(steps):
        raise error
    # As it comes from another process.
    return as_failure(pickle.loads(pickle.dumps(caught.value)), "compress")


@pytest.mark.parametrize(
    ("error", "steps", "family"),
    [
        (StudyError("no Cholesky factor"), (CHANNELS,), Family("remove_channels")),
        (CandidateError("awq knows Llama's weights only"), (CHANNELS, RTN4), None),
        (NotImplementedError("no kernel"), (GPTQ4,), Family("gptq")),
        (CandidateError("rtn.group_size=64 divides no row"), (RTN4,), Family("rtn", {"group_size": 64})),
        (UnsupportedStep("not with so few bits", ("bits",)), (RTN4,), Family("rtn", {"bits": 4})),
        (UnsupportedStep("no such layers"), (RTN4,), Family("rtn")),
    ],
    ids=repr,
)
def test_what_a_method_refuses_binds_its_steps_with_the_parameters_that_the_error_names(
    error: Exception, steps: tuple[Step, ...], family: Family | None
) -> None:
    failure = failure_of(error, *steps)
    assert failure.reason == "unsupported"
    if family is not None:
        assert failure.family == family
    else:
        # Met after other steps: of what else comes after exactly these.
        assert failure.family is not None and not failure.family.has((RTN4,))
        assert failure.family.has((CHANNELS, RTN(bits=8)))
    assert outcome_from_json(json.loads(json.dumps(failure.to_json()))) == failure


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        EmptyOutput("all 10 hypotheses are empty"),
        TrainingDiverged("the loss was not finite"),
        ValueError("score is nan; a measured number is finite"),
    ],
    ids=repr,
)
def test_what_comes_by_chance_or_by_size_binds_no_family(error: Exception) -> None:
    assert failure_of(error, CHANNELS, RTN4).family is None


def test_what_no_step_raised_binds_no_family_and_older_ledgers_have_none() -> None:
    assert as_failure(CandidateError("cannot be loaded"), "load").family is None
    old = {"kind": "failure", "reason": "error", "stage": "load", "message": "x"}
    assert outcome_from_json(old) == Failure("error", "load", "x")
    assert Failure("error", "load", "x").to_json() == old


def never(family: Family) -> bool:
    return False


def test_an_error_of_a_program_takes_out_its_step_and_in_the_same_words_again_the_method() -> None:
    families = Families()
    assert families.learn(failure_of(KeyError("model.layers.3"), GPTQ4), never) is None
    assert families.of((GPTQ4, LAYERS)) is not None
    assert families.of((GPTQ(bits=3),)) is None
    assert families.learn(failure_of(IndexError("out of range"), GPTQ(bits=3)), never) is None
    assert families.of((GPTQ(bits=8),)) is None
    assert families.learn(failure_of(KeyError("model.layers.5"), GPTQ(bits=8)), never) == Family("gptq")
    assert families.of((LAYERS, GPTQ(bits=2))) == Family("gptq")
    assert families.of((RTN4,)) is None


def test_what_has_worked_is_not_taken_out() -> None:
    families = Families()
    worked: Callable[[Family], bool] = lambda family: family.has((RTN(bits=8),))  # noqa: E731
    assert families.learn(failure_of(StudyError("refused"), RTN4), worked) is None
    assert families.of((RTN4,)) is None
    assert families.learn(failure_of(KeyError("a"), RTN4), worked) is None
    assert families.learn(failure_of(KeyError("a"), RTN(bits=3)), worked) is None
    assert families.of((RTN4,)) is not None and families.of((RTN(bits=2),)) is None


def refusing(method: str) -> Callable[[Proposal], Failure | None]:
    def failure(proposal: Proposal) -> Failure | None:
        return next(
            (
                failure_of(StudyError("this model can't take it"), step)
                for step in proposal.candidate.steps
                if step.name == method
            ),
            None,
        )

    return failure


@pytest.mark.parametrize(("space", "method"), [("bit-width", "gptq"), ("joint", "remove_channels")])
def test_no_further_member_of_a_family_is_proposed_nor_after_a_resume(space: str, method: str) -> None:
    fails = refusing(method)
    of = Proposer(BASE, CHECKPOINT, SPACES[space], trials=20, seed=0)
    tried, out, records = [], [], []
    while isinstance(proposal := of.propose(), Proposal):
        failure = fails(proposal)
        found = None if failure else TrialFinding(Objectives(50.0, proposal.predicted_bytes))
        tried.append(proposal)
        kept = record(proposal, found and found.loss)
        if failure is not None:
            object.__setattr__(kept, "outcome", failure)
        records.append(kept)
        if (family := of.tell(proposal.number, found, failure)) is not None:
            out.append(family)
    members = [one for one in tried if Family(method).has(one.candidate.steps)]
    assert len(members) == 1 and out == [Family(method)]
    assert len(tried) == 20
    assert any(Family(method).describe() in why for _, why in of.refused)

    again = Proposer(BASE, CHECKPOINT, SPACES[space], trials=26, seed=0, known=records)
    while isinstance(proposal := again.propose(), Proposal):
        assert not Family(method).has(proposal.candidate.steps)
        again.tell(proposal.number, TrialFinding(Objectives(50.0, proposal.predicted_bytes)))


def test_tunes_result_carries_the_failure_with_its_family() -> None:
    failure = failure_of(StudyError("refused"), CHANNELS)
    line = {"number": 3, "split": "dev", "outcome": failure.to_json()}
    told = report(line)
    assert failure_in(told) == failure
    assert all(isinstance(value, (str, int, float, bool)) for value in told.values())


def test_a_family_is_described_as_a_person_says_it() -> None:
    assert Family("rtn", {"group_size": 96}).describe() == "rtn(group_size=96)"
    after = failure_of(KeyError("a"), LAYERS, RTN4).family
    assert (
        after is not None
        and after.describe().startswith("rtn(bits=4, ")
        and " after remove_layers(" in after.describe()
    )
    assert family_from_json(after.to_json()) == after


def test_a_baselines_failure_takes_nothing_out() -> None:
    of = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=3, seed=0)
    first = of.propose()
    assert isinstance(first, Proposal)
    assert of.tell(first.number, None, as_failure(StudyError("no"), "load")) is None
    assert of.baseline_failed
