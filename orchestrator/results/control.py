"""The control arms of a study: the uncompressed model trained as its best trained points were, and what these keep of
it. So "kept" is not "tuned further".

The best trained point is the smallest that keeps 99 % of the baseline's quality on dev; where none does, the one of the
best quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.ledger.records import Ledger, TrialRecord
from orchestrator.ledger.rescored import read_rescored, with_rescored
from orchestrator.results.answers import Kept, kept_on_mean, kept_on_worst_pair
from orchestrator.results.cost import Cost, cost_of
from orchestrator.results.intervals import Intervals, Known
from orchestrator.results.picking import USUAL_SHARE
from orchestrator.results.points import Point, Results
from search_spaces.methods.control import control_steps, trains
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure
from workers.plan.evaluation_plan import CONTROL_SPLITS, RACED_SPLIT
from workers.reading.segments import DataSet

# Split -> the one that control arms have on its data.
ARM_SPLITS = {data: split for split, data in CONTROL_SPLITS.items()}


@dataclass(frozen=True, slots=True)
class TrainedPoint:
    """A measured chain as a control arm is chosen for it."""

    steps: tuple[Step, ...]
    """Its steps; of an arm those of the control."""
    kept: float
    """The share of the baseline's quality on dev."""
    bytes: int
    """Its bytes on disk."""
    seconds: float = 0.0
    """What its trial took."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A trained point beside both baselines, on one split."""

    number: int
    """Its trial's on dev."""
    point: Point
    """The point on dev."""
    of_untouched: Kept
    """What it keeps of the model as it was, on the mean over language pairs."""
    of_tuned: Kept
    """What it keeps of the control arm, on the mean."""
    worst_of_tuned: Kept
    """What it keeps of the control arm on the pair of which it keeps least."""


@dataclass(frozen=True, slots=True)
class ControlArm:
    """The uncompressed model after the training of some points."""

    record: TrialRecord
    """Its trial on dev's data."""
    split: str
    """The data that it is compared on: "test", or "dev" where it has no score on held-out data."""
    tuned: Point | None
    """As it was measured there; None where it failed."""
    of_untouched: Kept | None
    """What it keeps of the model as it was, on the mean: above 1 where the training improved it."""
    worst_of_untouched: Kept | None
    """The same on the pair of which it keeps least."""
    compared: tuple[Compared, ...]
    """The points whose training it repeats, from the largest; those that were measured on the same data."""
    failure: Failure | None = None
    """Why it has no score."""


@dataclass(frozen=True, slots=True)
class ControlArms:
    """What a study has of control arms."""

    arms: tuple[ControlArm, ...] = ()
    """Those that were tried, in the order in which they were."""
    why: str = ""
    """Why there is none, in words, where points trained; empty where there are, or none did."""
    cost: Cost | None = None
    """What they took."""


def best_trained(points: Sequence[TrainedPoint], arms: int) -> list[TrainedPoint]:
    """The control arms of the best trained points, the best first, at most so many; each has its control's steps, and
    what its best point keeps, weighs and took. Points of one training share an arm; one that has no control has none.
    """
    order = sorted(
        points,
        key=lambda one: (one.kept < USUAL_SHARE, one.bytes if one.kept >= USUAL_SHARE else -one.kept, one.bytes),
    )
    found: dict[tuple[Step, ...], TrainedPoint] = {}
    for one in order:
        steps = control_steps(one.steps)
        if steps is not None and steps not in found and len(found) < arms:
            found[steps] = replace(one, steps=steps)
    return list(found.values())


def control_arms(
    folder: Path,
    ledger: Ledger,
    data: Mapping[str, DataSet],
    seed: int,
    dev: Results,
    test: Results | None,
    asked: int,
    known: Known | None = None,
) -> ControlArms:
    """The control arms of a run. seed: of the study's bootstrap. asked: how many arms the study asks for. known:
    bootstrap samples that were drawn already. Raises StudyError where hypotheses are missing."""
    if dev.baseline is None or dev.baseline.quality <= 0:
        return ControlArms()
    every = {record.key: record for record in with_rescored(ledger.of_all_splits, read_rescored(folder))}
    controls = {control_steps(point.record.candidate.steps) for point in dev.shown}
    tried = {
        record.candidate.digest: record
        for split in (RACED_SPLIT, ARM_SPLITS[RACED_SPLIT])
        for record in every.values()
        if record.split == split and (split != RACED_SPLIT or record.candidate.steps in controls)
    }
    arms = tuple(
        _arm(folder, record, every, data=data, seed=seed, dev=dev, test=test, known=known) for record in tried.values()
    )
    own = [record for record in every.values() if record.split in CONTROL_SPLITS]
    share = ledger.header["spec"].get("gpus_per_trial")
    why = "" if arms else _why_none(dev, asked, ledger)
    return ControlArms(arms, why, cost_of(own, share) if own else None)


def _why_none(dev: Results, asked: int, ledger: Ledger) -> str:
    trained = [point.record.candidate.steps for point in dev.shown if trains(point.record.candidate.steps)]
    if not trained:
        return ""
    if not asked:
        return "the study asked for no control arm (control_arms: 0)"
    if all(control_steps(steps) is None for steps in trained):
        return "nothing that trained here has a control: what was trained are scales, which only packed weights have"
    if not ledger.complete:
        return "the study is not over; its control arm follows the search"
    limited = any(ledger.header["spec"].get(key) for key in ("hours", "gpu_hours"))
    return f"{'the study was out of hours' if limited else 'the study is older'}; mtpareto resume makes it"


def _of(every: Mapping[tuple[str, str], TrialRecord], digest: str, split: str) -> TrialRecord | None:
    """The arm's trial on a split's data: its own, or that of the same candidate in the search."""
    return every.get((digest, ARM_SPLITS[split])) or every.get((digest, split))


def _arm(
    folder: Path,
    record: TrialRecord,
    every: Mapping[tuple[str, str], TrialRecord],
    *,
    data: Mapping[str, DataSet],
    seed: int,
    dev: Results,
    test: Results | None,
    known: Known | None,
) -> ControlArm:
    held_out = _of(every, record.candidate.digest, "test") if test is not None and test.baseline is not None else None
    judged = held_out or record
    results, split = (test, "test") if held_out is not None and test is not None else (dev, "dev")
    baseline = results.baseline
    outcome = judged.outcome
    if isinstance(outcome, Failure) or judged.measurement is None or baseline is None or judged.measurement.race:
        failure = outcome if isinstance(outcome, Failure) else None
        return ControlArm(record, split, None, None, None, (), failure)
    intervals = Intervals(folder, data[split], seed, results.metric, known)
    tuned = Point(
        judged,
        judged.measurement,
        results.metric,
        baseline.bytes / judged.measurement.footprint.bytes,
        intervals.between(judged, baseline.record),
        on_frontier=False,
        by_pair=intervals.by_pair(judged, baseline.record),
    )
    measured = {point.record.candidate.digest: point for point in results.points}
    compared = []
    shown = {point.record.key for point in dev.shown}
    for point in sorted(dev.points, key=lambda one: -one.bytes):
        if split == RACED_SPLIT and point.record.key not in shown:
            continue
        there = measured.get(point.record.candidate.digest)
        if there is None or control_steps(point.record.candidate.steps) != record.candidate.steps:
            continue
        number = point.record.number
        beside = replace(
            there,
            interval=intervals.between(there.record, judged),
            by_pair=intervals.by_pair(there.record, judged),
        )
        compared.append(
            Compared(
                number,
                point,
                kept_on_mean(there, baseline, number),
                kept_on_mean(beside, tuned, number),
                kept_on_worst_pair(beside, tuned, number),
            )
        )
    return ControlArm(
        record,
        split,
        tuned,
        kept_on_mean(tuned, baseline, record.number),
        kept_on_worst_pair(tuned, baseline, record.number),
        tuple(compared),
    )
