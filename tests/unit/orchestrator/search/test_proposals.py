"""What is tried next, against a made-up loss and without Ray: everything once, nothing forgotten, the same again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from optuna.trial import TrialState

from orchestrator.ledger.records import TrialRecord
from orchestrator.results.findings import TrialFinding, finding_of
from orchestrator.results.limits import Limits
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.statistics.frontier import Objectives
from search_spaces.candidate import Candidate
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune
from search_spaces.outcome import Failure, Race
from search_spaces.spaces.choices import Choices, ChoiceSource, Space
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.registry import SPACES
from search_spaces.spaces.training_suggestions import BUDGETS
from tests.support.examples import BASE, frontier_by_definition, llama_table, measurement

CHECKPOINT = replace(
    llama_table(),
    config={"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4},
)
GIVEN = ((RemoveLayers(count=2), BitsAndBytes(format="nf4")),)
BITS = {"int8": 8.0, "nf4": 4.0, "fp4": 3.5}
Losses = Callable[[Proposal], Objectives | None]


def loss(proposal: Proposal) -> Objectives:
    """Worse with fewer layers and fewer bits, and a little by chance that the candidate itself decides."""
    quality = 60.0 + int(proposal.candidate.digest[:4], 16) / 65536
    for step in proposal.candidate.steps:
        if isinstance(step, RemoveLayers):
            quality -= 6.0 * step.count
        elif isinstance(step, BitsAndBytes):
            quality -= 12.0 / BITS[step.format]
        elif hasattr(step, "bits"):
            quality -= 12.0 / step.bits
    return Objectives(quality, proposal.predicted_bytes)


def failing(proposal: Proposal) -> Objectives | None:
    """As `loss`, but all that bitsandbytes is asked for fails."""
    return None if any(isinstance(step, BitsAndBytes) for step in proposal.candidate.steps) else loss(proposal)


def steps_of_small(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """Up to two layers fewer, then one of three widths or none."""
    count = source.suggest_int("count", 0, offer.layers)
    bits = source.suggest_categorical("bits", (16, 8, 4, 3))
    pruned: tuple[Step, ...] = (RemoveLayers(count=count),) if count else ()
    return pruned if bits == 16 else (*pruned, RTN(bits=bits))


def anchors_of_small(offer: Offer) -> list[Choices]:
    return [{"count": 0, "bits": 8}, {"count": 1, "bits": 4}]


# Small enough to be walked whole: three numbers of layers × four widths, the baseline among them.
SMALL = Space("what a test can count", steps_of_small, anchors_of_small)


def proposer(
    trials: int,
    space: str = "joint",
    known: Iterable[TrialRecord] = (),
    held_out: bool = True,
    seed: int = 0,
    floor: float = 0.0,
    training: bool = False,
) -> Proposer:
    return Proposer(
        BASE,
        CHECKPOINT,
        SPACES.get(space, SMALL),
        trials=trials,
        seed=seed,
        given=GIVEN,
        held_out=held_out,
        known=known,
        floor=floor,
        training=training,
    )


@dataclass
class Run:
    """A driver: keeps up to `side_by_side` trials running, and ends them in an order of its own."""

    of: Proposer
    losses: Losses = loss
    side_by_side: int = 1
    order: random.Random = field(default_factory=lambda: random.Random(0))
    began: list[Proposal] = field(default_factory=list)
    ended: list[TrialRecord] = field(default_factory=list)

    def to_the_end(self) -> Run:
        running: list[Proposal] = []
        while True:
            proposal = self.of.propose() if len(running) < self.side_by_side else "wait"
            if isinstance(proposal, Proposal):
                self.began.append(proposal)
                running.append(proposal)
                continue
            if not running:
                assert proposal == "done"
                return self
            ending = running.pop(self.order.randrange(len(running)))
            found = self.losses(ending)
            self.of.tell(ending.number, found and TrialFinding(found))
            self.ended.append(record(ending, found))


def record(proposal: Proposal, found: Objectives | None) -> TrialRecord:
    outcome = Failure("error", "load", "made up") if found is None else measurement(found.quality, found.bytes)
    about: dict[str, Any] = {"attempt": 1, "started": "", "ended": "", "worker": "", "hypotheses": None}
    return TrialRecord(
        proposal.number,
        proposal.candidate,
        proposal.split,
        outcome,
        choices=proposal.choices,
        predicted_bytes=proposal.predicted_bytes,
        **about,
    )


def steps(proposals: Iterable[Proposal], split: str = "dev") -> list[tuple[Step, ...]]:
    return [proposal.candidate.steps for proposal in proposals if proposal.split == split]


def digests(records: Iterable[TrialRecord], split: str) -> list[str]:
    return [record.candidate.digest for record in records if record.split == split]


def test_the_baseline_is_first_then_the_given_anchors_then_the_spaces() -> None:
    run = Run(proposer(trials=9)).to_the_end()
    assert steps(run.began)[:6] == [
        (),
        GIVEN[0],
        (RTN(bits=8),),
        (GPTQ(bits=4),),
        (GPTQ(bits=4), QuantizeEmbeddings(bits=8)),
        (RemoveLayers(count=1, by="greedy"), GPTQ(bits=4), QuantizeEmbeddings(bits=8)),
    ]
    assert run.began[0].number == 0


@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("trials", [1, 2, 3])
def test_few_trials_are_spent_on_the_first_of_them(space: str, trials: int) -> None:
    run = Run(proposer(trials, space), side_by_side=4).to_the_end()
    assert steps(run.began)[:2] == [(), GIVEN[0]][:trials]
    assert len(steps(run.began)) == trials


@pytest.mark.parametrize("losses", [loss, failing])
@pytest.mark.parametrize("side_by_side", [1, 4, 100])
def test_a_search_ends_in_as_many_different_outcomes_as_were_asked_for(losses: Losses, side_by_side: int) -> None:
    run = Run(proposer(trials=20), losses, side_by_side).to_the_end()
    dev = digests(run.ended, "dev")
    assert len(dev) == len(set(dev)) == 20
    assert [proposal.number for proposal in run.began] == list(range(len(run.began)))
    assert run.of.finished()
    assert run.of.propose() == "done"


@pytest.mark.parametrize("losses", [loss, failing])
@pytest.mark.parametrize("side_by_side", [1, 4])
def test_the_frontier_and_the_baseline_are_held_out_once_each(losses: Losses, side_by_side: int) -> None:
    run = Run(proposer(trials=16), losses, side_by_side).to_the_end()
    measured = [(record.candidate, m) for record in run.ended if record.split == "dev" and (m := record.measurement)]
    kept = frontier_by_definition([Objectives(m.overall("chrf"), m.footprint.bytes) for _, m in measured])
    expected = {c.digest for (c, _), keep in zip(measured, kept, strict=True) if keep or not c.steps}
    held_out = digests(run.ended, "test")
    assert len(held_out) == len(expected) > 2
    assert set(held_out) == expected
    assert {proposal.split for proposal in run.began[:16]} == {"dev"}


@pytest.mark.parametrize("resumed", [False, True])
def test_only_what_was_measured_whole_is_sane_and_not_below_the_floor_is_held_out(resumed: bool) -> None:
    search = proposer(trials=6, floor=0.5)
    dev = [proposal for _ in range(6) if isinstance(proposal := search.propose(), Proposal)]
    baseline, good, raced, tied, copies, useless = dev
    usual, too_many = {"copied": 0.0, "empty": 0.05}, {"copied": 0.5, "empty": 0.05}
    lost = Race("dominated", good.number, 64, -9.0, -4.0, 99.0)
    tie = Race("tie", good.number, 64, -0.2, 0.1, 49.9)
    ended = [
        (baseline, replace(measurement(50.0, 1000), sanity=usual)),
        (good, replace(measurement(49.0, 900), sanity=usual)),
        (raced, replace(measurement(48.0, 100), sanity=usual, race=lost)),
        (tied, replace(measurement(48.0, 800), sanity=usual, race=tie)),
        (copies, replace(measurement(60.0, 100), sanity=too_many)),
        (useless, replace(measurement(24.0, 100), sanity=usual)),
    ]
    if resumed:
        search = proposer(
            trials=6, known=[replace(record(proposal, loss(proposal)), outcome=m) for proposal, m in ended], floor=0.5
        )
    for proposal, m in () if resumed else ended:
        search.tell(proposal.number, finding_of(m))
    assert search.frontier() == [baseline.candidate, good.candidate]
    held_out = [proposal for _ in range(2) if isinstance(proposal := search.propose(), Proposal)]
    assert [proposal.candidate for proposal in held_out] == [baseline.candidate, good.candidate]
    assert {proposal.split for proposal in held_out} == {"test"}
    sampled = [trial.values[0] for trial in search._study.get_trials(deepcopy=False) if trial.values]
    assert sampled == [99.0, 49.9, 60.0, 24.0]


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_worth_it_is_asked_once_dev_is_over_and_scored_and_timed_in_that_order(resumed: bool) -> None:
    asked: list[int] = []
    first = Run(proposer(trials=6, held_out=False)).to_the_end()
    digests_on_dev = digests(first.ended, "dev")
    worth = [digests_on_dev[number] for number in (0, 3, 5)]

    def answer() -> list[str]:
        asked.append(len(told))
        return worth

    told = list(first.ended) if resumed else []
    search = Proposer(
        BASE,
        CHECKPOINT,
        SPACES["joint"],
        trials=6,
        seed=0,
        given=GIVEN,
        held_out=True,
        speed=True,
        known=told,
        worth=answer,
    )
    rest: list[tuple[str, str]] = []
    while isinstance(proposal := search.propose(), Proposal):
        search.tell(proposal.number, TrialFinding(loss(proposal)))
        told.append(record(proposal, loss(proposal)))
        if proposal.split != "dev":
            rest.append((proposal.split, proposal.candidate.digest))
    assert search.finished()
    assert rest == [(split, digest) for split in ("test", "speed") for digest in worth]
    assert asked == [6], "when the last of dev had ended, and not again"


def test_held_out_trials_wait_for_the_last_search_trial_and_then_run_side_by_side() -> None:
    search = proposer(trials=8)
    dev = [proposal for _ in range(8) if isinstance(proposal := search.propose(), Proposal)]
    assert len(dev) == 8
    for proposal in dev[:-1]:
        search.tell(proposal.number, TrialFinding(loss(proposal)))
        assert search.propose() == "wait"
    assert not search.finished()
    search.tell(dev[-1].number, TrialFinding(loss(dev[-1])))

    first, second = search.propose(), search.propose()
    assert isinstance(first, Proposal)
    assert isinstance(second, Proposal)
    assert first.split == second.split == "test"
    assert first.candidate != second.candidate


def test_nothing_is_held_out_where_that_was_not_asked_for() -> None:
    run = Run(proposer(trials=5, held_out=False)).to_the_end()
    assert {proposal.split for proposal in run.began} == {"dev"}
    assert run.of.finished()


def test_a_failed_held_out_trial_is_not_tried_again() -> None:
    run = Run(proposer(trials=5), lambda proposal: loss(proposal) if proposal.split == "dev" else None).to_the_end()
    assert len(digests(run.ended, "test")) == len(set(digests(run.ended, "test"))) > 1
    assert run.of.finished()


def test_a_second_telling_changes_nothing() -> None:
    search = proposer(trials=3)
    proposal = search.propose()
    assert isinstance(proposal, Proposal)
    assert search.pending(proposal.number) == proposal
    search.tell(proposal.number, TrialFinding(Objectives(50.0, 10)))
    search.tell(proposal.number, None)
    search.tell(99, None)
    assert search.pending(proposal.number) is None
    assert search.frontier() == [Candidate(BASE)]


@pytest.mark.parametrize("losses", [loss, failing])
def test_the_sampler_hears_of_every_outcome_and_nothing_is_left_running(losses: Losses) -> None:
    run = Run(proposer(trials=20), losses, side_by_side=3).to_the_end()
    told = run.of._study.get_trials(deepcopy=False)
    assert {trial.state for trial in told} <= {TrialState.COMPLETE, TrialState.FAIL}
    completed = sorted(tuple(trial.values or ()) for trial in told if trial.state == TrialState.COMPLETE)
    sampled = [record for record in run.ended if record.choices and record.measurement]
    assert completed == sorted((m.overall("chrf"), float(m.footprint.bytes)) for r in sampled if (m := r.measurement))
    assert len(sampled) >= 10


@pytest.mark.parametrize(("space", "size"), [("small", 12), ("depth", 7), ("mixed", 81)])
def test_an_exhausted_space_is_said_to_be_so_after_all_of_it_was_tried(space: str, size: int) -> None:
    # small: 3 × 4. depth: 1 or 2 of 4 layers, chosen in 3 ways, and the baseline. mixed: 10 budgets × 4 groups × 2, and
    # the baseline. The given anchor is in none of them and adds one.
    run = Run(proposer(trials=10_000, space=space), side_by_side=4).to_the_end()
    assert run.of.exhausted
    assert len(set(digests(run.ended, "dev"))) == len(digests(run.ended, "dev")) == size + 1
    assert run.of.finished()


def test_a_space_that_is_just_large_enough_is_not_said_to_be_exhausted() -> None:
    run = Run(proposer(trials=13, space="small")).to_the_end()
    assert not run.of.exhausted
    assert len(digests(run.ended, "dev")) == 13


def test_a_sampler_that_only_repeats_itself_in_a_vast_space_costs_one_walk_of_a_few_steps() -> None:
    asked = 0

    def vast(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
        """4^12 sets of choices, each another candidate."""
        nonlocal asked
        asked += 1
        counts = [source.suggest_int(f"count-{number}", 1, 4) for number in range(12)]
        return tuple(RemoveLayers(count=count) for count in counts)

    deep = llama_table(layers=50, hidden=32, ffn=32)
    search = Proposer(BASE, deep, Space("vast", vast, lambda offer: []), trials=5, seed=0)
    search._asked_once = lambda: None  # type: ignore[method-assign]
    run = Run(search).to_the_end()
    assert len(set(digests(run.ended, "dev"))) == 5
    assert not search.exhausted
    # A walk's first step is new each time; the sampler is told of it by one more.
    assert asked == 2 * 4


def test_choices_that_mean_something_else_by_now_teach_the_sampler_nothing() -> None:
    first = Run(proposer(trials=4, space="small")).to_the_end().ended
    renamed = [
        replace(known, choices={f"old-{name}": value for name, value in known.choices.items()}) for known in first
    ]
    again = proposer(trials=4, space="small", known=renamed)
    told = again._study.get_trials(deepcopy=False)
    assert [trial.state for trial in told] == [TrialState.FAIL] * 2
    assert again.propose() == "done"


def test_a_given_anchor_that_this_model_cannot_take_is_refused_with_the_reason() -> None:
    impossible, idle = (RemoveLayers(count=4),), (Finetune(),)
    search = Proposer(BASE, CHECKPOINT, SPACES["depth"], trials=3, seed=0, given=(impossible, idle))
    run = Run(search).to_the_end()
    assert not {impossible, idle} & set(steps(run.began))
    assert len(steps(run.began)) == 3
    assert [reason.split(";")[0] for _, reason in search.refused] == [
        "remove_layers.count=4 leaves none of the model's 4 layers",
        "finetune(tokens=1000000, loss=forward_kl): the model is its own teacher as long as nothing has changed it, "
        "so there is nothing to learn. Use loss: references or sequence, or a reference_share above 0, or compress "
        "first.",
    ]


@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_same_seed_proposes_the_same_again_and_another_does_not(space: str) -> None:
    trials = {"depth": 6, "width": 3}.get(space, 14)
    runs = [Run(proposer(trials, space, seed=seed)).to_the_end() for seed in (1, 1, 2)]
    assert runs[0].began == runs[1].began
    if trials == 14:
        assert runs[0].began != runs[2].began


@pytest.mark.parametrize("losses", [loss, failing])
def test_a_search_cut_at_any_point_goes_on_to_the_full_set_and_repeats_nothing(losses: Losses) -> None:
    whole = Run(proposer(trials=14), losses, side_by_side=3).to_the_end().ended
    for cut in range(len(whole) + 1):
        known = whole[:cut]
        run = Run(proposer(trials=14, known=known), losses, side_by_side=3).to_the_end()
        together = [*known, *run.ended]
        keys = [record.key for record in together]
        assert len(keys) == len(set(keys))
        assert len(digests(together, "dev")) == 14
        assert digests(together, "dev").count(Candidate(BASE).digest) == 1
        assert set(digests(together, "test")) == {candidate.digest for candidate in run.of.frontier()}
        assert not {record.number for record in known} & {proposal.number for proposal in run.began}
        assert {trial.state for trial in run.of._study.get_trials(deepcopy=False)} <= {
            TrialState.COMPLETE,
            TrialState.FAIL,
        }


def test_a_finished_search_goes_on_when_more_trials_are_asked_for() -> None:
    first = Run(proposer(trials=6)).to_the_end().ended
    assert proposer(trials=6, known=first).propose() == "done"
    more = Run(proposer(trials=9, known=first)).to_the_end()
    assert len(steps(more.began)) == 3
    assert set(digests([*first, *more.ended], "test")) >= {candidate.digest for candidate in more.of.frontier()}


def test_a_failed_baseline_ends_the_search() -> None:
    run = Run(proposer(trials=9), lambda proposal: loss(proposal) if proposal.candidate.steps else None).to_the_end()
    assert steps(run.began) == [()]
    assert run.of.baseline_failed
    assert run.of.finished()


def test_the_speed_of_each_frontier_point_is_asked_for_last_and_one_at_a_time() -> None:
    proposer = Proposer(BASE, CHECKPOINT, SPACES["bit-width"], trials=2, seed=0, held_out=True, speed=True)
    split_order = []
    waits = 0
    pending: list[Proposal] = []
    while (proposal := proposer.propose()) != "done":
        if proposal == "wait":
            waits += 1
            one = pending.pop(0)
            proposer.tell(
                one.number, None if one.split == "speed" else TrialFinding(Objectives(60.0, one.predicted_bytes))
            )
            continue
        assert isinstance(proposal, Proposal)
        split_order.append(proposal.split)
        pending.append(proposal)
        assert proposal.split != "speed" or len(pending) == 1
    assert split_order == ["dev", "dev", "test", "test", "speed", "speed"]
    assert waits == 6
    assert proposer.finished()


@pytest.mark.parametrize(("timable", "timed"), [(True, 2), (False, 0)])
def test_where_only_the_baseline_can_be_timed_nothing_is(timable: bool, timed: int) -> None:
    proposer = Proposer(
        BASE,
        CHECKPOINT,
        SPACES["bit-width"],
        trials=2,
        seed=0,
        held_out=True,
        speed=True,
        timable=lambda steps: timable or not steps,
    )
    splits: list[str] = []
    due: list[int] = []
    while isinstance(proposal := proposer.propose(), Proposal):
        splits.append(proposal.split)
        due.append(0 if proposal.split == "dev" else proposer.due(proposal.split))
        found = None if proposal.split == "speed" else TrialFinding(Objectives(60.0, proposal.predicted_bytes))
        proposer.tell(proposal.number, found)
    assert splits == ["dev", "dev", "test", "test", *["speed"] * timed]
    assert due == [0, 0, 2, 1, *([2, 1] if timed else [])]
    assert proposer.nothing_to_time is not timable
    assert proposer.finished()


def test_what_takes_the_place_of_a_model_that_breaks_a_limit_is_scored_and_timed_too() -> None:
    broken: set[str] = set()
    tried: list[str] = []

    def worth() -> list[str]:
        """The baseline and the first candidate that breaks nothing."""
        return [Candidate(BASE).digest, *[digest for digest in tried if digest not in broken][:1]]

    proposer = Proposer(
        BASE,
        CHECKPOINT,
        SPACES["bit-width"],
        trials=4,
        seed=0,
        held_out=True,
        speed=True,
        worth=worth,
        timable=lambda steps: not steps,
        limits=Limits(1.0),
    )
    found: list[tuple[str, str]] = []
    while isinstance(proposal := proposer.propose(), Proposal):
        digest = proposal.candidate.digest
        if proposal.split == "dev" and proposal.candidate.steps:
            tried.append(digest)
        if proposal.split == "speed" and digest in tried[:2]:
            broken.add(digest)
        found.append((proposal.split, digest))
        told = None if proposal.split == "speed" else TrialFinding(Objectives(60.0, proposal.predicted_bytes))
        proposer.tell(proposal.number, told)
    whole = Candidate(BASE).digest
    assert found[4:] == [
        ("test", whole), ("test", tried[0]), ("speed", whole), ("speed", tried[0]), ("test", tried[1]),
        ("speed", tried[1]), ("test", tried[2]), ("speed", tried[2]),
    ]  # fmt: skip
    assert proposer.finished()


def test_what_can_not_fit_is_not_tried_and_said_to_be_refused() -> None:
    mark = (RTN(bits=8),)
    proposer = Proposer(
        BASE,
        CHECKPOINT,
        SPACES["bit-width"],
        trials=50,
        seed=0,
        given=[mark],
        references=[mark],
        fits=lambda steps, size: all(getattr(step, "bits", 8) <= 4 for step in steps),
    )
    made = []
    while isinstance(proposal := proposer.propose(), Proposal):
        made.append(proposal.candidate.steps)
        proposer.tell(proposal.number, TrialFinding(Objectives(60.0, proposal.predicted_bytes)))
    assert made[:2] == [(), mark] and len(made) > 3, "the baseline and references are tried, whatever they take"
    assert all(getattr(step, "bits", 8) <= 4 for steps in made[2:] for step in steps)
    assert any("more memory than the study's max_memory" in why for _, why in proposer.refused)


def steps_of_trained(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    """A student of one to three of four layers and a budget, or the whole model in one of two widths."""
    layers = source.suggest_categorical("distill.layers", (0, 1, 2, 3))
    if layers:
        return (Distill(layers=layers, tokens=source.suggest_categorical("distill.budget", BUDGETS)),)
    return (RTN(bits=source.suggest_categorical("bits", (8, 4))),)


def anchors_of_trained(offer: Offer) -> list[Choices]:
    return [{"distill.layers": 2, "distill.budget": BUDGETS[0]}, {"distill.layers": 0, "bits": 8}]


# Eleven candidates: three students with three budgets each, and two widths.
TRAINED = Space("what a test can count", steps_of_trained, anchors_of_trained)


def trained_loss(proposal: Proposal) -> Objectives | None:
    """Better the longer a student was trained, and always worse than 8 bits."""
    for step in proposal.candidate.steps:
        if isinstance(step, Distill):
            return Objectives(40.0 + 4 * step.layers + BUDGETS.index(step.tokens), proposal.predicted_bytes)
    return loss(proposal)


def trained_proposer(trials: int, known: Iterable[TrialRecord] = (), seed: int = 0) -> Proposer:
    return Proposer(BASE, CHECKPOINT, TRAINED, trials=trials, seed=seed, known=known, training=True)


def budgets(proposals: Iterable[Proposal]) -> list[tuple[int, int]]:
    """(layers, budget) of each student in turn."""
    dev = (proposal for proposal in proposals if proposal.split == "dev")
    return [(s.layers, s.tokens) for proposal in dev for s in proposal.candidate.steps if isinstance(s, Distill)]


def test_a_trained_candidate_on_the_frontier_is_trained_for_longer_before_anything_new() -> None:
    run = Run(trained_proposer(trials=5), trained_loss).to_the_end()
    assert budgets(run.began) == [(2, budget) for budget in BUDGETS]
    assert [proposal.choices.get("distill.budget") for proposal in run.began] == [None, BUDGETS[0], None, *BUDGETS[1:]]
    told = [trial for trial in run.of._study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    assert [trial.params.get("distill.budget") for trial in told] == [BUDGETS[0], None, *BUDGETS[1:]]


@pytest.mark.parametrize(
    "ended",
    [
        None,
        TrialFinding(Objectives(80.0, 10), raced=True),
        TrialFinding(Objectives(80.0, 10), sanity={"copied": 0.9}),
        TrialFinding(Objectives(10.0, 10**9)),
        TrialFinding(Objectives(20.0, 10)),
    ],
    ids=["failed", "raced", "insane", "dominated", "below the floor"],
)
def test_what_is_not_worth_it_is_not_trained_for_longer(ended: TrialFinding | None) -> None:
    search = Proposer(BASE, CHECKPOINT, TRAINED, trials=12, seed=0, floor=0.5, training=True)
    baseline, student, eight = (search.propose() for _ in range(3))
    assert isinstance(baseline, Proposal) and isinstance(student, Proposal) and isinstance(eight, Proposal)
    search.tell(baseline.number, TrialFinding(loss(baseline)))
    search.tell(eight.number, TrialFinding(loss(eight)))
    search.tell(student.number, ended)
    assert search._with_more_training() is None


def test_what_was_trained_for_longest_is_not_trained_again() -> None:
    run = Run(trained_proposer(trials=100), trained_loss, side_by_side=3).to_the_end()
    students = budgets(run.began)
    assert sorted(students) == sorted((layers, budget) for layers in (1, 2, 3) for budget in BUDGETS)
    assert run.of.exhausted


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_budgets_are_raised_alike_after_a_crash_and_each_once(seed: int) -> None:
    whole = Run(trained_proposer(9, seed=seed), trained_loss).to_the_end()
    assert whole.began == Run(trained_proposer(9, seed=seed), trained_loss).to_the_end().began
    for cut in range(len(whole.ended) + 1):
        known = whole.ended[:cut]
        again = Run(trained_proposer(9, known, seed), trained_loss).to_the_end()
        together = [*(record.candidate.digest for record in known), *digests(again.ended, "dev")]
        assert len(together) == len(set(together)) == 9
        if 3 <= cut < 5:
            assert budgets(again.began)[0] == (2, BUDGETS[cut - 2])


def test_a_raised_budget_counts_among_the_trials() -> None:
    run = Run(trained_proposer(trials=4), trained_loss).to_the_end()
    assert len(steps(run.began)) == 4
    assert budgets(run.began) == [(2, BUDGETS[0]), (2, BUDGETS[1])]


@pytest.mark.parametrize("space", ["joint", "student"])
def test_a_search_with_training_data_ends_in_as_many_different_outcomes_as_were_asked_for(space: str) -> None:
    run = Run(proposer(24, space, training=True), side_by_side=3).to_the_end()
    dev = digests(run.ended, "dev")
    assert len(dev) == len(set(dev)) == 24
    assert any(step.kind == "trainer" for candidate in steps(run.began) for step in candidate)
    assert not run.of.refused
    told = run.of._study.get_trials(deepcopy=False)
    assert {trial.state for trial in told} <= {TrialState.COMPLETE, TrialState.FAIL}


def test_a_trial_that_is_to_be_tried_again_comes_first_under_its_number_and_choices() -> None:
    run = Run(proposer(5)).to_the_end()
    *known, last = [one for one in run.ended if one.split == "dev"]
    again = Proposer(
        BASE, CHECKPOINT, SPACES["joint"], trials=5, seed=0, given=GIVEN, known=known, again=[last], numbers=9
    )
    first = again.propose()
    assert isinstance(first, Proposal)
    assert (first.number, first.candidate, first.choices) == (last.number, last.candidate, last.choices)
    assert again.propose() == "wait"
    assert again.under_way() == [last.candidate]
    again.tell(first.number, TrialFinding(Objectives(60.0, 900)))
    assert last.candidate in again.measured() and again.finished()


def test_a_baseline_that_is_to_be_tried_again_ends_no_search() -> None:
    first = proposer(3).propose()
    assert isinstance(first, Proposal)
    again = Proposer(BASE, CHECKPOINT, SPACES["joint"], trials=3, seed=0, again=[record(first, None)], numbers=1)
    assert not again.baseline_failed
    assert again.propose() == first
    following = again.propose()
    assert isinstance(following, Proposal) and following.number == 1


def test_why_a_candidate_was_chosen_is_asked_for_with_it_and_of_others_nothing_is_said() -> None:
    why = {"kept": 0.95, "low": 0.9, "high": 1.0, "gain": 0.01, "seconds": 40.0}
    chosen = Proposal(3, Candidate(BASE, (RTN(bits=4),)), "dev", {"bits": 4}, 900, why)
    assert chosen.to_json() == {
        "number": 3,
        "candidate": chosen.candidate.to_json(),
        "split": "dev",
        "choices": {"bits": 4},
        "predicted_bytes": 900,
        "why": why,
    }
    assert "why" not in replace(chosen, why={}).to_json()
