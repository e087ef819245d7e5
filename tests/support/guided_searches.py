"""A guided search without Ray or a machine: what a made-up model would find."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.ledger.records import TrialRecord
from orchestrator.results.findings import finding_of, probe_of
from orchestrator.results.limits import NO_LIMITS, Limits
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.study.values import Target
from search_spaces.methods.pruners import RemoveChannels, RemoveHeads, RemoveLayers, Sparsifier, TrimVocabulary
from search_spaces.methods.quantizers import MixedWidths
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Trainer
from search_spaces.outcome import Failure, Measurement, Probe, Speed
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, measurement
from workers.plan.evaluation_plan import PROFILE_SPLIT, SPEED_SPLIT

WHOLE = 60.0
# How far from the baseline training towards references as well moves it, in nats.
MOVED = 0.1


def nats(steps: tuple[Step, ...]) -> float:
    """The divergence of a made-up model: its damage, and how far references moved it."""
    return damage(steps) + MOVED * any(step.reference_share > 0.0 for step in trainers(steps))


def damage(steps: tuple[Step, ...]) -> float:
    """What it loses: parts that add up, and a little more for depth with few bits; training mends most."""
    parts = [_alone(step) for step in steps if not isinstance(step, Trainer)]
    left = math.prod(0.4 * (step.tokens / 1_000_000) ** -0.3 for step in steps if isinstance(step, Trainer))
    return left * (sum(parts) + (0.2 * math.sqrt(math.prod(parts[:2])) if len(parts) > 1 else 0.0))


def _alone(step: Step) -> float:
    if isinstance(step, TrimVocabulary):
        return 0.1 * (8000 / step.tokens - 1)
    if isinstance(step, RemoveLayers):
        return 0.14 * step.count**2
    if isinstance(step, RemoveHeads):
        return 0.3
    if isinstance(step, RemoveChannels):
        return 2.0 * step.share**2
    if isinstance(step, Sparsifier):
        worse = {"sparsegpt": 1.0, "wanda": 1.4, "magnitude": 3.0}[step.name] * (2.0 if step.pattern else 1.0)
        return worse * 1.5 * step.sparsity**3
    # A zero point is worth a quarter of the damage here.
    worse = {"hqq": 1.6, "awq": 1.2}.get(step.name, 1.0) * (1.0 if getattr(step, "symmetric", True) else 0.75)
    size = getattr(step, "group_size", 64)
    bits = float(getattr(step, "bits", 4)) - 0.25 * math.log2((size if size > 0 else 1024) / 64)
    return worse * 30.0 * 4.0**-bits * (0.2 if isinstance(step, MixedWidths) else 0.25)


def trainers(steps: tuple[Step, ...]) -> list[Trainer]:
    return [step for step in steps if isinstance(step, Trainer)]


def quality(steps: tuple[Step, ...], references: float = 0.0) -> float:
    """references: the share of the whole quality that training towards them adds."""
    added = references * any(step.reference_share > 0.0 for step in trainers(steps))
    return WHOLE * (math.exp(-((0.7 * damage(steps)) ** 1.3)) + added) if steps else WHOLE


@dataclass
class Searched:
    """A search with no machine: each proposal ends as the made-up model says, at most `side_by_side` at a time."""

    proposer: Proposer
    records: list[TrialRecord]
    proposals: list[Proposal]

    @property
    def dev(self) -> list[Proposal]:
        return [proposal for proposal in self.proposals if proposal.split == "dev"]


def search(
    checkpoint: Checkpoint,
    trials: int,
    known: list[TrialRecord] | None = None,
    side_by_side: int = 1,
    stop_after: int | None = None,
    fails: Callable[[Proposal], Failure | None] = lambda proposal: None,
    training: bool = False,
    aim: Target | None = None,
    max_bytes: int | None = None,
    least_rate: float = 0.0,
    fits: Callable[[tuple[Step, ...], int], bool] | None = None,
    space: str = "joint",
    guided: bool = True,
    limits: Limits = NO_LIMITS,
    memory: Callable[[tuple[Step, ...], int], int] | None = None,
    timable: Callable[[tuple[Step, ...]], bool] = lambda steps: True,
    speed: bool = False,
    references: float = 0.0,
    start: tuple[Step, ...] = (),
    gain: float = 0.0,
    anchors: tuple[tuple[Step, ...], ...] = (),
) -> Searched:
    """start: what the space's candidates begin with. gain: the share of the whole quality that it adds to all of them.
    They lie as far from what it makes as they would from the baseline without it. anchors: what the study names."""
    proposer = Proposer(
        BASE,
        checkpoint,
        SPACES[space],
        trials=trials,
        seed=0,
        floor=0.5,
        guided=guided,
        known=known or (),
        training=training,
        aim=aim,
        max_bytes=max_bytes,
        least_rate=least_rate,
        fits=fits,
        limits=limits,
        memory=memory,
        timable=timable,
        speed=speed,
        given=(*((start,) if start else ()), *anchors),
        references=(start,) if start else (),
        start=start,
    )
    done = Searched(proposer, list(known or []), [])
    running: list[Proposal] = []
    while stop_after is None or len(done.records) < stop_after:
        proposal = proposer.propose() if len(running) < side_by_side else "wait"
        if isinstance(proposal, Proposal):
            running.append(proposal)
            done.proposals.append(proposal)
            continue
        if proposal == "done":
            break
        assert running, "the search waits for nothing"
        ended = running.pop(0)
        outcome = fails(ended) or outcome_of(ended, references, start, gain)
        done.records.append(record_of(ended, outcome))
        failure = outcome if isinstance(outcome, Failure) else None
        if isinstance(outcome, Speed):
            proposer.tell(ended.number, outcome)
        elif ended.split == PROFILE_SPLIT:
            proposer.tell(ended.number, probe_of(outcome), failure)
        else:
            found = finding_of(outcome) if isinstance(outcome, Measurement) else None
            proposer.tell(ended.number, found, failure)
    return done


def tokens_s(steps: tuple[Step, ...]) -> float:
    """What the made-up model decodes in a second: packed weights are slower than dense ones, and layers cost time."""
    found = 1000.0
    for step in steps:
        if isinstance(step, RemoveLayers):
            found /= 1.0 - 0.15 * step.count
        elif isinstance(step, RemoveChannels):
            found /= 1.0 - 0.4 * step.share
        elif step.kind == "quantizer":
            found *= 0.6
    return found


def outcome_of(
    proposal: Proposal, references: float = 0.0, start: tuple[Step, ...] = (), gain: float = 0.0
) -> Measurement | Probe | Speed:
    steps = proposal.candidate.steps
    begun = bool(start) and steps[: len(start)] == start
    steps = steps[len(start) :] if begun else steps
    if proposal.split == SPEED_SPLIT:
        return Speed({1: tokens_s(steps) / 30.0, 64: tokens_s(steps)})
    if proposal.split == PROFILE_SPLIT:
        return Probe({"en-de": nats(steps)}, proposal.predicted_bytes, {"compress": 1.0, "divergence": 0.5})
    return replace(
        measurement((1.0 + gain * begun) * quality(steps, references), proposal.predicted_bytes),
        divergence={"en-de": nats(steps)},
        seconds={"compress": len(steps) + sum(step.tokens / 40_000 for step in trainers(steps)), "translate": 2.0},
    )


def record_of(proposal: Proposal, outcome: Measurement | Probe | Speed | Failure) -> TrialRecord:
    return TrialRecord(
        number=proposal.number,
        candidate=proposal.candidate,
        split=proposal.split,
        outcome=outcome,
        attempt=1,
        choices=proposal.choices,
        predicted_bytes=proposal.predicted_bytes,
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:00:09+00:00",
        worker="host:1",
        hypotheses=None,
        why=proposal.why,
    )
