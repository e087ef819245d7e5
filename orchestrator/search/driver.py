"""A search from beginning to end: check what was asked, run Tune's loop, then say what was found.

The order of truth: a trial's outcome is in the ledger before Tune, the sampler or MLflow hear of it.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from orchestrator.cluster import join as cluster
from orchestrator.finish.mirroring import MirrorThread
from orchestrator.finish.run_folder import alone, read_data, refuse_changed_data, reopen
from orchestrator.finish.wrap_up import TUNE_FOLDER, SearchResult, connect, worth_scoring, wrap_up
from orchestrator.ledger.names import LEDGER
from orchestrator.ledger.records import Ledger, create_ledger, mend_torn_tail, read_ledger, refuse_taken
from orchestrator.number_format import metric_name
from orchestrator.progress.display import Progress
from orchestrator.progress.polling import TrainingPoller
from orchestrator.progress.trial_table import PHASES, Totals
from orchestrator.racing.referee import Referee
from orchestrator.results.intervals import Known
from orchestrator.results.resampling import Resampling
from orchestrator.search.callbacks import TrialWatcher
from orchestrator.search.faults import Driving, spell_due
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.searcher import ParetoSearcher
from orchestrator.stopping.signals import UnderWay
from orchestrator.study.base_model import refuse_candidates, refuse_changed_base, refuse_unaskable, told
from orchestrator.study.calibration import UNSEEN, Calibration, read_calibration, refuse_changed_calibration
from orchestrator.study.metrics import metrics_of
from orchestrator.study.preflight import refuse_missing_packages, refuse_small_disk, worker_packages
from orchestrator.study.spec import NO_LANGUAGE_CHECK, StudySpec
from orchestrator.study.splits import spell_left_out
from orchestrator.study.training import Training, read_training, refuse_changed_training, short_trainings
from search_spaces.candidate import BaseModel, refuse_idle_training
from search_spaces.errors import StudyError
from search_spaces.methods.timable import timable_on_cpu
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.registry import SPACES
from workers.checkpoints.base_model import open_base, refuse_early
from workers.comet.actor import GPU_SHARE, start_comet
from workers.evaluation.attempt import or_else, unless_machine
from workers.evaluation.trial_actor import CompressionTrial
from workers.failures.table import MachineError, MachineFault
from workers.plan.evaluation_plan import RACED_SPLIT, SPEED_SPLIT, EvaluationPlan
from workers.reading.segments import DataSet
from workers.runtime.artefact_store import ArtefactStore
from workers.scoring.direction_check import refuse_wrong_direction

log = logging.getLogger(__name__)

# More than any search proposes: the Proposer says when it is over.
UNLIMITED = 10**9
# What a driver sees of a Ray that is going.
RAY_FAILS = (ray.exceptions.RayError, tune.TuneError, ConnectionError)
DRIVER_DISTRIBUTIONS = ("ray", "optuna", "mlflow", "sacrebleu")


@dataclass(frozen=True, slots=True)
class Study:
    """A spec with everything it names read and checked."""

    spec: StudySpec
    base: BaseModel
    checkpoint: Checkpoint
    data: Mapping[str, DataSet]
    calibration: Calibration
    metrics: tuple[str, ...]
    training: Training | None = None
    packages: tuple[str, ...] = ()

    @property
    def measures_comet(self) -> bool:
        return "comet" in self.metrics

    def plan(self, gpus: float) -> EvaluationPlan:
        """What every trial is measured under."""
        spec = self.spec
        return EvaluationPlan(
            self.data, self.calibration.pairs, self.metrics, spec.decoding, spec.store_folder, spec.seed,
            spec.device_map, gpus if 0 < gpus < 1 else None, spec.trust_remote_code, spec.calibration_tokens,
            self.calibration.text, spec.rungs, spec.comet_model, self.training.data if self.training else None,
            spec.training_gpus, spec.languages,
        )  # fmt: skip


def run_search(spec: StudySpec, console: Console, work: UnderWay | None = None) -> SearchResult:
    """Begin a study in a new folder; raises UserError, with nothing written, for what can't be done.

    work: is told of what is under way, for whoever may have to end it.
    """
    spec, work = spec.absolute(), work or UnderWay()
    refuse_taken(spec.folder)
    for steps in spec.anchors:
        refuse_idle_training(steps)
    study = prepare(spec, console)
    refuse_small_disk(spec.store_folder, study.checkpoint.bytes, _first_artefact(study))
    joined = cluster.join(spec.address, work)
    try:
        placement = _place(study)
        work.ledger = spec.folder / LEDGER
        create_ledger(spec.folder, header(study))
        with alone(spec.folder):
            work.begin(work.ledger)
            return _run(study, console, joined, placement)
    except RAY_FAILS as error:
        work.give_up(f"Ray failed under the search ({type(error).__name__}; ray.log says more)")
        raise
    finally:
        joined.leave()


def resume_search(
    folder: Path, console: Console, trials: int | None = None, work: UnderWay | None = None
) -> SearchResult:
    """Go on with the study in a run's folder: what its ledger holds is not repeated. trials: a new, larger number.

    Raises StudyError when a search is running there. work: as in `run_search`.
    """
    work = work or UnderWay()
    _, spec = reopen(folder)
    with alone(spec.folder):
        work.begin(spec.folder / LEDGER)
        study = _reopened(spec, console, trials)
        joined = cluster.join(spec.address, work)
        try:
            return _run(study, console, joined, _place(study))
        except RAY_FAILS as error:
            work.give_up(f"Ray failed under the search ({type(error).__name__}; ray.log says more)")
            raise
        finally:
            joined.leave()


def _reopened(spec: StudySpec, console: Console, trials: int | None) -> Study:
    """The study of a ledger, with all that it was begun with still as it was; the ledger's end is mended."""
    ledger = read_ledger(spec.folder)
    if trials is not None:
        spec = replace(spec, trials=trials)
        _refuse_fewer(len(ledger.on(RACED_SPLIT)), trials)
    if ledger.complete and len(ledger.on(RACED_SPLIT)) >= spec.trials:
        more = f"mtpareto resume {spec.folder} --trials N goes on to N"
        console.print(f"all {spec.trials} trials have ended; {more}", markup=False, highlight=False, soft_wrap=True)
    study = prepare(spec, console, ledger.header)
    refuse_changed_base(ledger.header["base"], study.base, study.checkpoint.bytes)
    refuse_changed_data(ledger, study.data, spec.folder)
    refuse_changed_calibration(ledger.header, study.calibration, spec.folder)
    refuse_changed_training(ledger.header, study.training, spec.folder)
    if torn := mend_torn_tail(spec.folder):
        console.print(f"the ledger's last line was cut short by a crash; {torn} bytes were moved to ledger.torn")
    return study


def _refuse_fewer(known: int, trials: int) -> None:
    if trials < known:
        raise StudyError(
            f"--trials {trials} asks for fewer trials than the study has ({known}); --trials is how many it shall have "
            "in all: ask for more, or leave it out"
        )


def prepare(spec: StudySpec, console: Console, begun: Mapping[str, Any] | None = None) -> Study:
    """Read and check everything the spec names; writes nothing. begun: the ledger's header of a study that goes on."""
    data = read_data(spec)
    for dataset in data.values():
        for line in spell_left_out(dataset):
            console.print(line, markup=False, highlight=False)
    check = partial(refuse_candidates, steps=spec.anchors)
    # Before what may take long: data to train on, and weights to download.
    refuse_early(spec.model, spec.revision, spec.trust_remote_code, check)
    calibration = read_calibration(spec, data, begun)
    if spec.check_languages and begun is None:
        for dataset in (*data.values(), *([calibration.pairs] if spec.calibration else [])):
            refuse_wrong_direction(dataset.name, dataset.segments, f"{NO_LANGUAGE_CHECK} (check_languages: false)")
    training = read_training(spec, data)
    for line in (*calibration.told(spec), *(training.told() if training else ())):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    opened = open_base(spec.model, spec.revision, spec.trust_remote_code, check)
    refuse_unaskable(opened, spec.prompt, data.values(), spec.trust_remote_code)
    short = short_trainings(spec, training, opened.tokenizer_folder) if training else []
    for line in (*told(opened, spec.store_folder), *short):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    earlier = None if begun is None else begun.get("metrics", ())
    metrics = metrics_of(spec, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), earlier)
    packages = worker_packages(spec, data, metrics, training is not None)
    refuse_missing_packages(packages, spec.address)
    return Study(spec, opened.base, opened.checkpoint, data, calibration, metrics, training, packages)


def header(study: Study) -> dict[str, Any]:
    """The ledger's first line: what was asked, and what everything is measured under."""
    return {
        "spec": study.spec.to_json(),
        "base": {"name": study.base.name, "revision": study.base.revision, "bytes": study.checkpoint.bytes},
        "data": {split: dataset.digest for split, dataset in study.data.items()},
        "calibration": study.calibration.identity(),
        UNSEEN: list(study.calibration.unseen),
        "training": study.training.identity() if study.training else None,
        "metrics": list(study.metrics),
        "conditions": {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            **{name: version(name) for name in DRIVER_DISTRIBUTIONS},
        },
    }


def _run(study: Study, console: Console, joined: cluster.Joined, placement: cluster.Placement) -> SearchResult:
    spec = study.spec
    ledger = read_ledger(spec.folder)
    if spec.store is None:
        ArtefactStore(spec.store_folder).sweep()
    resampling = Resampling(spec.folder, study.data, spec.seed)
    ended = unless_machine(lambda: _loop(study, ledger, console, resampling, placement), "search")
    halt = Halt(ended, "") if isinstance(ended, MachineFault) else ended
    joined.leave()
    if halt is not None:
        raise _halted(study, halt, console, resampling.samples)
    return wrap_up(spec, study.data, console, known=resampling.samples)


def _place(study: Study) -> cluster.Placement:
    spec = study.spec
    return cluster.place(
        spec.cpus_per_trial,
        _gpus_asked(study),
        spec.max_concurrent,
        spec.training_gpus if study.training else 1,
        GPU_SHARE if study.measures_comet else 0.0,
    )


def _halted(study: Study, halt: Halt, console: Console, known: Known) -> MachineError:
    """The error that ends a halted search, once its pages are written as far as that can be."""
    spec = study.spec
    written = partial(wrap_up, spec, study.data, console, known=known)
    or_else(written, lambda why: console.print(f"pages     not written: {why}"))
    return MachineError(halt.fault, f" {halt.due}Then go on with: mtpareto resume {spec.folder}")


@dataclass(frozen=True, slots=True)
class Halt:
    """The machine's fault that stopped a search, and the outcomes that could not be written, in words."""

    fault: MachineFault
    due: str


def _loop(
    study: Study, ledger: Ledger, console: Console, resampling: Resampling, placement: cluster.Placement
) -> Halt | None:
    """Tune's loop, until the Proposer is done; or the machine's fault that stopped it."""
    spec = study.spec
    if study.measures_comet:
        # Before trials take every GPU; it lives as long as this process.
        start_comet(spec.comet_model or "comet", spec.store_folder)
    name = f"ledger-{os.getpid()}-{threading.get_ident()}"
    segments = study.data[RACED_SPLIT].segments
    referee = partial(_referee, spec) if spec.rungs else None
    actor = cluster.ledger_actor(name, str(spec.folder), referee)
    on_gpu = spec.device_map != "cpu" and bool(ray.cluster_resources().get("GPU", 0.0))
    proposer = _proposer(study, ledger, resampling.samples, on_gpu)
    resampling.nudge()
    known = len(ledger.on("dev"))
    totals = Totals(
        spec.trials, known, placement.side_by_side, study.checkpoint.bytes, metric_name(spec.quality), len(segments),
        study.training is not None, _phases(study),
    )  # fmt: skip
    progress = Progress(
        totals,
        console,
        trainings=TrainingPoller(actor.trainings, {}) if study.training else None,
        doings=TrainingPoller(actor.doings, {}),
        warnings=TrainingPoller(actor.warnings, []),
        numbers={trial.candidate.describe() or "baseline": trial.number for trial in ledger.on(RACED_SPLIT)},
    )
    mirror = MirrorThread(lambda: connect(spec), spec.folder)

    store = spec.store_folder if spec.store is None else None
    driving = Driving(proposer, actor, console, progress, mirror.nudge, store, spec.keep)
    searcher = ParetoSearcher(
        proposer,
        spec.retries,
        driving.on_lost,
        driving.begun,
        driving.make_room,
        driving.room_for,
        driving.on_halt,
        driving.on_family,
    )
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                CompressionTrial,
                plan=study.plan(placement.gpus),
                ledger=name,
                apart=placement.share,
                packages=study.packages,
            ),
            placement.group(),
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=UNLIMITED,
            max_concurrent_trials=placement.side_by_side,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=f"{TUNE_FOLDER}-{datetime.now(UTC):%Y%m%dT%H%M%S}",
            storage_path=str(spec.folder / TUNE_FOLDER),
            # The searcher tries lost trials again.
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[TrialWatcher(progress, mirror, resampling, due=proposer.due)],
            verbose=0,
        ),
    )
    try:
        fault = unless_machine(lambda: _driven(tuner, actor, spec.trials, searcher, proposer), "search")
        due = unless_machine(lambda: spell_due(ray.get(actor.due.remote())), "ledger")
        unless_machine(lambda: progress.warned(ray.get(actor.warnings.remote())), "ledger")
    finally:
        progress.stop()
        resampling.stop()
        mirror.stop(timeout=30)
        ray.kill(actor)
    for steps, reason in proposer.refused:
        log.info("not tried: %s: %s", steps, reason)
    if proposer.exhausted:
        console.print(f"the space {spec.space} holds no more candidates for this model than were tried")
    if proposer.nothing_to_time:
        said = "speed was not measured: on a CPU nothing but the baseline runs as it ships"
        console.print(said, soft_wrap=True)
    if proposer.baseline_failed:
        console.print("the uncompressed baseline failed, so there is nothing to compare with; the search stopped there")
    return None if fault is None else Halt(fault, due if isinstance(due, str) else "")


def _phases(study: Study) -> tuple[str, ...]:
    """What follows the search's own trials."""
    asked = {"test": "test" in study.data, SPEED_SPLIT: study.spec.speed}
    return tuple(PHASES[split] for split, wanted in asked.items() if wanted)


def _proposer(
    study: Study, ledger: Ledger | None = None, samples: Known | None = None, on_gpu: bool = True
) -> Proposer:
    """What proposes the study's trials; with a ledger it knows what that holds. samples: drawn of it already. on_gpu:
    whether candidates are timed on one."""
    spec = study.spec
    return Proposer(
        study.base,
        study.checkpoint,
        SPACES[spec.space],
        spec.trials,
        spec.seed,
        spec.anchors,
        "test" in study.data,
        spec.speed,
        ledger.trials if ledger else (),
        spec.floor,
        training=study.training is not None,
        vocabulary=not study.calibration.unseen,
        again=ledger.set_aside if ledger else (),
        numbers=ledger.numbers if ledger else 0,
        worth=partial(worth_scoring, spec, study.data, samples),
        timable=lambda steps: on_gpu or timable_on_cpu(steps),
    )


def _first_artefact(study: Study) -> int:
    """The predicted bytes of the first candidate after the baseline; 0 where there is none."""
    proposer = _proposer(study)
    _, first = proposer.propose(), proposer.propose()
    return first.predicted_bytes if isinstance(first, Proposal) and first.split == RACED_SPLIT else 0


def _driven(
    tuner: tune.Tuner, actor: Any, trials: int, searcher: ParetoSearcher, proposer: Proposer
) -> MachineFault | None:
    """From the note that a driver begins to the note that it ends; the machine's fault that halted it."""
    ray.get(actor.begin_driving.remote(trials))
    ended = unless_machine(tuner.fit, "search")
    halted = searcher.halted or (ended if isinstance(ended, MachineFault) else None)
    noted = unless_machine(lambda: ray.get(actor.end.remote(halted is None and proposer.finished())), "ledger")
    return halted or (noted if isinstance(noted, MachineFault) else None)


def _referee(spec: StudySpec) -> Referee:
    return Referee(read_data(spec)[RACED_SPLIT].segments, spec.quality, spec.floor)


def _gpus_asked(study: Study) -> float | None:
    """The share of a GPU that a trial asks for: what was said; else, where COMET is measured, all but COMET's share."""
    gpus = study.spec.gpus_per_trial
    there = ray.cluster_resources().get("GPU", 0.0) if study.measures_comet else 0.0
    if not there:
        return gpus
    if gpus is None:
        return 1.0 - GPU_SHARE
    if gpus > there - GPU_SHARE:
        raise StudyError(
            f"a trial asks for {gpus:g} of {there:g} GPUs, and COMET takes {GPU_SHARE:g}; "
            f"ask for {1.0 - GPU_SHARE:g} with --gpus-per-trial"
        )
    return gpus


def _trial_folder(trial: Any) -> str:
    return f"trial-{trial.config['number']}-{trial.config['split']}"
