"""Tune's loop over the trials of a study, and what works beside it: the ledger's writer, the display, the mirror.

A machine's fault ends the loop, and is handed back once all that worked beside it has ended.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ray
from ray import tune
from rich.console import Console

from orchestrator.cluster import join as cluster
from orchestrator.finish.mirroring import MirrorThread
from orchestrator.finish.run_folder import referee_of
from orchestrator.finish.wrap_up import TUNE_FOLDER, connect, worth_scoring
from orchestrator.ledger.records import Ledger, TrialRecord
from orchestrator.number_format import metric_name, spell_bytes, spell_seconds
from orchestrator.progress.display import ProgressDisplay
from orchestrator.progress.polling import LATE_SECONDS, TrainingPoller
from orchestrator.progress.trial_table import BASELINE, PHASES, Totals
from orchestrator.results.cost import SECONDS_AN_HOUR, cost_of
from orchestrator.results.intervals import Known
from orchestrator.results.resampling import Resampling
from orchestrator.results.step_labels import short_label
from orchestrator.search.callbacks import TrialWatcher
from orchestrator.search.estimates import (
    CHARACTERS,
    bytes_beside_weights,
    expected_tokens,
    training_tokens_s,
    trial_seconds,
)
from orchestrator.search.faults import Driving, spell_due
from orchestrator.search.guidance import Fits
from orchestrator.search.prepared import Study
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.room import default_limit, held_bytes
from orchestrator.search.searcher import Budget, ParetoSearcher
from orchestrator.study.preflight import nearest_folder
from orchestrator.study.spec import StudySpec
from orchestrator.surrogate.row_costs import Memory
from search_spaces.methods.registry import Step
from search_spaces.methods.timable import timable_on_cpu
from search_spaces.spaces.registry import SPACES
from workers.comet.actor import start_comet
from workers.evaluation.attempt import unless_machine
from workers.evaluation.trial_actor import CompressionTrial
from workers.failures.table import MachineFault
from workers.plan.evaluation_plan import RACED_SPLIT, SPEED_SPLIT

log = logging.getLogger(__name__)

# More than any search proposes: the Proposer says when it is over.
UNLIMITED = 10**9
MIRROR_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Halt:
    """The machine's fault that stopped a search, and the outcomes that could not be written, in words."""

    fault: MachineFault
    due: str


@dataclass(frozen=True, slots=True)
class Writer:
    """The ledger's actor, and the name under which trials find it."""

    name: str
    actor: Any


@dataclass(frozen=True, slots=True)
class Beside:
    """What works in this process while Tune's loop runs, and ends after it."""

    progress: ProgressDisplay
    mirror: MirrorThread
    resampling: Resampling

    def stop(self) -> None:
        """End the display, the resampling and then the mirror, which may have a write to finish."""
        self.progress.stop()
        self.resampling.stop()
        self.mirror.stop(timeout=MIRROR_SECONDS)


def run_loop(
    study: Study,
    ledger: Ledger,
    console: Console,
    *,
    resampling: Resampling,
    placement: cluster.Placement,
    trial: type[CompressionTrial],
) -> Halt | None:
    """Tune's loop, until the Proposer is done; or the machine's fault that stopped it.

    ledger: what was known before. resampling: runs already, and is ended here. trial: what Tune runs for each proposal.
    """
    if study.measures_comet:
        # Before trials take every GPU; it lives as long as this process.
        start_comet(study.spec.comet_model or "comet", study.spec.store_folder)
    writer = _start_writer(study.spec)
    proposer = proposer_of(study, ledger, resampling.samples, _times_on_gpu(study.spec))
    resampling.nudge()
    progress = _start_progress(
        study, ledger, console, writer.actor, side_by_side=placement.side_by_side, proposer=proposer
    )
    beside = Beside(progress, MirrorThread(lambda: connect(study.spec), study.spec.folder), resampling)
    limit = store_limit(study.spec)
    if study.spec.third == "speed" and not _times_on_gpu(study.spec):
        said = "packed weights have none on a CPU: a model of these stands for its size alone"
        console.print(f"speed     {said}", markup=False, highlight=False, soft_wrap=True)
    if limit is not None:
        _say_limit(study.spec, limit, console)
    budget = budget_of(study.spec, placement, ledger.trials)
    searcher = _searcher(study.spec, proposer, writer.actor, console, beside, limit, budget)
    watcher = TrialWatcher(progress, beside.mirror, resampling, due=proposer.due)
    measured = _measured(study, placement, trial, writer.name)
    tuner = _tuner(study.spec, measured, placement.side_by_side, searcher, watcher)
    try:
        halt = _driven(tuner, writer.actor, study.spec.trials, searcher, proposer)
        unless_machine(lambda: progress.warned(ray.get(writer.actor.warnings.remote())), "ledger")
    finally:
        beside.stop()
        # Last: the display asks it until it ends.
        ray.kill(writer.actor)
    if searcher.out_of:
        limit = getattr(study.spec, searcher.out_of)
        unit = "h" if searcher.out_of == "hours" else "GPU-hours"
        more = "; mtpareto resume goes on" if searcher.out_of == "hours" else ""
        free = f", but for {spell_seconds(searcher.kept_free)} of the control arm" if searcher.kept_free else ""
        said = f"time      {limit:g} {unit} are over{free}: no further candidate was begun{more}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    for candidate in proposer.left_out_controls:
        what = f"{short_label(candidate)} on the uncompressed model"
        said = (
            f"control   left out, for the study's hours are over: {what}; mtpareto resume makes it while some are left"
        )
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    _say_what_was_not_done(study.spec, proposer, console)
    return halt


def proposer_of(
    study: Study,
    ledger: Ledger | None = None,
    samples: Known | None = None,
    on_gpu: bool = True,
    guided: bool | None = None,
) -> Proposer:
    """What proposes the study's trials; with a ledger it knows what that holds. samples: drawn of it already. on_gpu:
    whether candidates are trained and timed on one. guided: as the study is where nothing is said; listing a space's
    rows takes seconds for a large model."""
    spec = study.spec
    memory = _memory_of(study) if spec.max_memory is not None or spec.third == "memory" else None
    return Proposer(
        study.base,
        study.checkpoint,
        SPACES[spec.space],
        trials=spec.trials,
        seed=spec.seed,
        given=spec.given,
        references=spec.marks,
        start=spec.start,
        held_out="test" in study.data,
        speed=spec.speed,
        known=ledger.trials if ledger else (),
        floor=spec.floor,
        training=study.training is not None,
        vocabulary=not study.calibration.unseen,
        again=ledger.set_aside if ledger else (),
        numbers=ledger.numbers if ledger else 0,
        worth=partial(worth_scoring, spec, study.data, samples),
        timable=lambda steps: on_gpu or timable_on_cpu(steps),
        guided=study.is_guided if guided is None else guided,
        aim=spec.aim,
        max_bytes=spec.max_bytes,
        # A second of a trial holds so many GPU-seconds; on a CPU hours are the trial's.
        least_rate=(spec.min_gain or 0.0) / 100.0 * (spec.gpus_per_trial or 1.0) / 3600.0,
        control_arms=spec.control_arms,
        fits=None if memory is None or spec.max_memory is None else _fits(memory, spec.max_memory),
        limits=spec.limits,
        memory=memory,
        tokens_s=training_tokens_s(study.checkpoint, on_gpu),
    )


def _fits(memory: Memory, most: int) -> Fits:
    return lambda steps, size: memory(steps, size) <= most


def _memory_of(study: Study) -> Memory:
    """How many bytes what steps make takes at the least as it ships: weights as they are stored, and what is needed
    beside them."""
    base = study.checkpoint
    shortest = min(len(segment.source) for segment in study.data[RACED_SPLIT].segments) // CHARACTERS
    known: dict[tuple[Step, ...], int] = {}

    def memory(steps: tuple[Step, ...], size: int) -> int:
        # What is needed beside weights depends on what is removed alone, which many rows share.
        removed = tuple(step for step in steps if step.kind == "pruner")
        if removed not in known:
            known[removed] = bytes_beside_weights(base, removed, shortest)
        return size - base.other_bytes - base.header_bytes + known[removed]

    return memory


def store_limit(spec: StudySpec) -> int | None:
    """The bytes that the study's own store may hold; None for a shared store."""
    if spec.store is not None:
        return None
    return default_limit(spec.store_folder) if spec.store_limit is None else spec.store_limit


def _say_limit(spec: StudySpec, limit: int, console: Console) -> None:
    why = "half of what is free; --store-limit sets it" if spec.store_limit is None else "--store-limit"
    free = shutil.disk_usage(nearest_folder(spec.store_folder)).free
    if limit > free + held_bytes(spec.store_folder):
        why += f"; the disk has {spell_bytes(free)} free, and what is not needed makes room"
    line = f"store     at most {spell_bytes(limit)} in {spec.store_folder} ({why})"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def foreseen_seconds(study: Study, proposer: Proposer) -> list[tuple[Proposal, float]]:
    """The trials that are known before anything is measured, each with what it would take on the GPU that the estimates
    are of."""
    found: list[tuple[Proposal, float]] = []
    tokens = expected_tokens(study.data[RACED_SPLIT].segments, study.spec.max_new_tokens)
    calibrated = False
    for proposal in proposer.foreseen():
        steps = proposal.candidate.steps
        seconds = trial_seconds(
            study.checkpoint,
            steps,
            tokens if proposal.split == RACED_SPLIT else (),
            batch=study.spec.batch_size,
            statistics=not calibrated,
        )
        calibrated = calibrated or any(step.is_calibrated for step in steps)
        found.append((proposal, seconds))
    return found


def _times_on_gpu(spec: StudySpec) -> bool:
    return spec.device_map != "cpu" and bool(ray.cluster_resources().get("GPU", 0.0))


def _start_writer(spec: StudySpec) -> Writer:
    name = f"ledger-{os.getpid()}-{threading.get_ident()}"
    return Writer(name, cluster.ledger_actor(name, str(spec.folder), partial(referee_of, spec) if spec.rungs else None))


def _start_progress(
    study: Study, ledger: Ledger, console: Console, actor: Any, *, side_by_side: int, proposer: Proposer
) -> ProgressDisplay:
    """The display, which asks the ledger's actor what trials do. ledger: the trials known from before. proposer: of
    those to come, and asked for none yet."""
    spec = study.spec
    known = ledger.on(RACED_SPLIT)
    totals = Totals(
        trials=spec.trials,
        known=len(known),
        side_by_side=side_by_side,
        baseline_bytes=study.checkpoint.bytes,
        quality=metric_name(spec.quality),
        segments=len(study.data[RACED_SPLIT].segments),
        trains=study.training is not None,
        costs={
            proposal.candidate.describe() or BASELINE: seconds
            for proposal, seconds in foreseen_seconds(study, proposer)
            if proposal.split == RACED_SPLIT
        },
        follow=_phases(study),
        ends=None if spec.hours is None else time.monotonic() + spec.hours * SECONDS_AN_HOUR,
    )
    return ProgressDisplay(
        totals,
        console,
        trainings=TrainingPoller(actor.trainings, {}) if study.training else None,
        doings=TrainingPoller(actor.doings, {}),
        warnings=TrainingPoller(actor.warnings, [], LATE_SECONDS),
        numbers={trial.candidate.describe() or "baseline": trial.number for trial in known},
    )


def _phases(study: Study) -> tuple[str, ...]:
    """What follows the search's own trials."""
    asked = {"test": "test" in study.data, SPEED_SPLIT: study.spec.speed}
    return tuple(PHASES[split] for split, wanted in asked.items() if wanted)


def budget_of(spec: StudySpec, placement: cluster.Placement, known: Sequence[TrialRecord]) -> Budget:
    """What the search may still take. known: the trials of earlier drivers."""
    gpus = float(spec.training_gpus) if placement.apart else placement.gpus
    seconds = None if spec.hours is None else spec.hours * SECONDS_AN_HOUR
    if spec.gpu_hours is None:
        return Budget(seconds)
    left = spec.gpu_hours - cost_of(known, spec.gpus_per_trial).gpu_hours
    return Budget(seconds, left * SECONDS_AN_HOUR, gpus)


def _searcher(
    spec: StudySpec,
    proposer: Proposer,
    actor: Any,
    console: Console,
    beside: Beside,
    limit: int | None,
    budget: Budget,
) -> ParetoSearcher:
    """Tune's way to the Proposer, with what is done when trials end otherwise than well. limit: of the store, in
    bytes."""
    driving = Driving(
        proposer,
        actor,
        console,
        progress=beside.progress,
        nudge=beside.mirror.nudge,
        store=spec.store_folder if spec.store is None else None,
        limit=limit,
        keep=spec.keep,
    )
    return ParetoSearcher(
        proposer,
        spec.retries,
        on_lost=driving.on_lost,
        begun=driving.begun,
        make_room=driving.make_room,
        room_for=driving.room_for,
        on_halt=driving.on_halt,
        on_family=driving.on_family,
        budget=budget,
    )


def _measured(study: Study, placement: cluster.Placement, trial: type[CompressionTrial], writer: str) -> Any:
    """What Tune runs, with all that trials share and the resources of one. writer: the name of the ledger's actor."""
    given = tune.with_parameters(
        trial, plan=study.plan(placement.gpus), ledger=writer, apart=placement.share, packages=study.packages
    )
    return tune.with_resources(given, placement.group())


def _tuner(
    spec: StudySpec, measured: Any, side_by_side: int, searcher: ParetoSearcher, watcher: TrialWatcher
) -> tune.Tuner:
    return tune.Tuner(
        measured,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=UNLIMITED,
            max_concurrent_trials=side_by_side,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=f"{TUNE_FOLDER}-{datetime.now(UTC):%Y%m%dT%H%M%S}",
            storage_path=str(spec.folder / TUNE_FOLDER),
            # The searcher tries lost trials again.
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[watcher],
            verbose=0,
        ),
    )


def _trial_folder(trial: Any) -> str:
    return f"trial-{trial.config['number']}-{trial.config['split']}"


def _driven(tuner: tune.Tuner, actor: Any, trials: int, searcher: ParetoSearcher, proposer: Proposer) -> Halt | None:
    """From the note that a driver begins to the note that it ends; what halted it, with what is still to be written."""
    fault = unless_machine(lambda: _fitted(tuner, actor, trials, searcher, proposer), "search")
    due = unless_machine(lambda: spell_due(ray.get(actor.due.remote())), "ledger")
    return None if fault is None else Halt(fault, due if isinstance(due, str) else "")


def _fitted(
    tuner: tune.Tuner, actor: Any, trials: int, searcher: ParetoSearcher, proposer: Proposer
) -> MachineFault | None:
    ray.get(actor.begin_driving.remote(trials))
    ended = unless_machine(tuner.fit, "search")
    halted = searcher.halted or (ended if isinstance(ended, MachineFault) else None)
    noted = unless_machine(lambda: ray.get(actor.end.remote(halted is None and proposer.finished())), "ledger")
    return halted or (noted if isinstance(noted, MachineFault) else None)


def _say_what_was_not_done(spec: StudySpec, proposer: Proposer, console: Console) -> None:
    for steps, reason in proposer.refused:
        log.info("not tried: %s: %s", steps, reason)
    for steps, reason in proposer.references_refused:
        console.print(
            f"reference point {steps} was not measured: {reason}", markup=False, highlight=False, soft_wrap=True
        )
    if (line := _aim_line(spec, proposer)) is not None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if proposer.gain_is_spent:
        said = f"gain      nothing is expected to add {spec.min_gain:g} % to the frontier's hypervolume in a GPU-hour"
        console.print(f"{said}, so the search stopped there", markup=False, highlight=False, soft_wrap=True)
    if proposer.exhausted:
        console.print(f"the space {spec.space} holds no more candidates for this model than were tried")
    if proposer.nothing_to_time:
        said = "speed was not measured: on a CPU nothing but the baseline runs as it ships"
        console.print(said, soft_wrap=True)
    if proposer.start_failed:
        console.print("what the space's candidates begin with could not be made; the search stopped there")
    if proposer.baseline_failed:
        console.print("the uncompressed baseline failed, so there is nothing to compare with; the search stopped there")


def _aim_line(spec: StudySpec, proposer: Proposer) -> str | None:
    """What became of the target; None where there is none, or no baseline."""
    found = proposer.smallest_in_aim()
    if spec.aim is None or found is None:
        return None
    what = short_label(found) if found.steps else "nothing but the baseline"
    line = f"target    {spec.aim} on {spec.data_name}: {what}"
    if proposer.aim_is_met:
        return f"{line}; no other candidate is expected to save 1 % of the bytes, so the search stopped there"
    return f"{line}; the trials ended before that was settled"
