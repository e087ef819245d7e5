"""A search whose candidates begin with a training: it is measured first, and they are searched as if it were whole."""

from __future__ import annotations

import pytest

from orchestrator.search.proposals import Proposal
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune
from search_spaces.outcome import Failure
from search_spaces.sizes.tensor_table import Checkpoint
from tests.support.guided_searches import Searched, search
from workers.checkpoints.base_model import open_base
from workers.plan.evaluation_plan import PROFILE_SPLIT

START: tuple[Step, ...] = (Finetune(loss="references", tokens=16_000_000),)
GAIN = 0.06


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_base("models/captions", None, False, lambda *_: None).checkpoint


def steps_of(proposals: list[Proposal]) -> list[tuple[Step, ...]]:
    return [proposal.candidate.steps for proposal in proposals]


def own(done: Searched) -> list[tuple[Step, ...]]:
    """The steps of the candidates after those of the baseline and of the start, without these."""
    return [steps[len(START) :] for steps in steps_of(done.dev[2:])]


def test_every_candidate_but_the_baseline_begins_so(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 14, start=START, gain=GAIN)
    assert steps_of(done.dev[:2]) == [(), START]
    probes = steps_of([one for one in done.proposals if one.split == PROFILE_SPLIT])
    assert probes and all(len(steps) == 2 for steps in probes)
    assert all(steps[:1] == START and steps != START for steps in (*probes, *steps_of(done.dev[2:])))


@pytest.mark.parametrize("guided", [True, False])
def test_nothing_of_the_space_is_begun_before_it_was_measured(checkpoint: Checkpoint, guided: bool) -> None:
    done = search(checkpoint, 14, start=START, side_by_side=4, stop_after=1, guided=guided)
    assert steps_of(done.proposals) == [(), START]


def test_an_anchor_that_begins_so_waits_for_it_and_others_do_not(checkpoint: Checkpoint) -> None:
    shared, alone = (*START, RemoveLayers(count=1)), (RemoveLayers(count=2),)
    anchors = (shared, alone)
    before = search(checkpoint, 16, start=START, side_by_side=4, stop_after=1, anchors=anchors)
    assert steps_of(before.proposals) == [(), START, alone]
    assert steps_of(search(checkpoint, 16, start=START, side_by_side=4, anchors=anchors).dev[2:4]) == [alone, shared]


def test_the_search_is_that_of_what_the_start_made(checkpoint: Checkpoint) -> None:
    plain, begun = search(checkpoint, 16), search(checkpoint, 17, start=START)
    assert own(begun)[:10] == steps_of(plain.dev[1:11])
    assert [one.why for one in begun.dev[2:12]] == [one.why for one in plain.dev[1:11]]


def test_what_is_expected_of_candidates_is_said_of_the_baseline(checkpoint: Checkpoint) -> None:
    plain, begun = search(checkpoint, 16).dev, search(checkpoint, 17, start=START, gain=GAIN).dev
    assert begun[2].candidate.steps == START + plain[1].candidate.steps
    assert begun[2].why["kept"] == pytest.approx((1.0 + GAIN) * plain[1].why["kept"], rel=1e-3)
    assert max(one.why["kept"] for one in begun if one.why) > 1.0


def test_it_goes_on_after_a_stop_as_if_it_had_not(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 15, start=START, gain=GAIN, training=True)
    cut = len(done.records) - 4
    again = search(checkpoint, 15, start=START, gain=GAIN, training=True, known=done.records[:cut])
    assert steps_of(again.dev) == steps_of(done.dev[-len(again.dev) :])
    assert len(again.dev) == 4


def test_its_own_tokens_are_no_budget_that_was_tried(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 20, start=START, gain=GAIN, training=True)
    budgets = [max((getattr(step, "tokens", 0) for step in steps if step.kind == "trainer"), default=0)
               for steps in own(done)]  # fmt: skip
    first = next(tokens for tokens in budgets if tokens)
    assert first <= 4_000_000


def test_without_it_there_is_nothing_to_search(checkpoint: Checkpoint) -> None:
    def fails(proposal: Proposal) -> Failure | None:
        return Failure("not_finite", "compress", "logits are not finite") if proposal.candidate.steps == START else None

    done = search(checkpoint, 14, start=START, fails=fails)
    assert steps_of(done.proposals) == [(), START]
    assert done.proposer.start_failed and not done.proposer.baseline_failed
    assert not search(checkpoint, 2, start=START).proposer.start_failed


def test_the_floor_is_of_the_baseline(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 24, start=START, gain=1.0)
    # Half of the baseline is a quarter of what these begin with.
    assert min(one.why["kept"] for one in done.dev if one.why) < 1.0
