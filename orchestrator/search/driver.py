"""A search from beginning to end: check what was asked, run Tune's loop, then say what was found.

The order of truth: a trial's outcome is in the ledger before Tune, the sampler or MLflow hear of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import ray
from ray import tune
from rich.console import Console

from orchestrator.cluster import join as cluster
from orchestrator.cluster.sharing import Machine, gpu_memory, share_of, trials_a_gpu
from orchestrator.finish.run_folder import hold_search_lock, refuse_changed_data, reopen
from orchestrator.finish.wrap_up import SearchResult, wrap_up
from orchestrator.ledger.names import LEDGER
from orchestrator.ledger.records import create_ledger, mend_torn_tail, read_ledger, refuse_taken
from orchestrator.report.published.points_file import put_published_points
from orchestrator.results.intervals import Known
from orchestrator.results.resampling import Resampling
from orchestrator.search.dry_run import request_tokens
from orchestrator.search.estimates import running_bytes, training_bytes
from orchestrator.search.loop import Halt, proposer_of, run_loop
from orchestrator.search.made_first import with_synthetic_pairs
from orchestrator.search.prepared import Study, header, prepare
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.base_model import refuse_changed_base
from orchestrator.study.calibration import refuse_changed_calibration
from orchestrator.study.preflight import refuse_small_disk
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import refuse_changed_training
from search_spaces.candidate import refuse_idle_training
from search_spaces.errors import StudyError
from workers.comet.actor import GPU_SHARE
from workers.evaluation.attempt import or_else, unless_machine
from workers.evaluation.trial_actor import CompressionTrial
from workers.failures.table import MachineError, MachineFault
from workers.plan.evaluation_plan import RACED_SPLIT
from workers.runtime.artefact_store import ArtefactStore
from workers.runtime.host_memory import available_bytes

# What a driver sees of a Ray that is going.
RAY_FAILS = (ray.exceptions.RayError, tune.TuneError, ConnectionError)


def run_search(spec: StudySpec, console: Console, work: RunningCommand | None = None) -> SearchResult:
    """Begin a study in a new folder; raises UserError, with nothing written, for what can't be done.

    work: is told of what is under way, for whoever may have to end it.
    """
    spec, work = spec.absolute(), work or RunningCommand()
    refuse_taken(spec.folder)
    for steps in spec.given:
        refuse_idle_training(steps)
    study = prepare(spec, console)
    refuse_small_disk(spec.store_folder, study.checkpoint.bytes, _first_artefact(study), spec.store_limit)
    joined = cluster.join(spec.address, work)
    try:
        if joined.folder is not None:
            study = _shared(study, console)
        placement = _place(study)
        study = with_synthetic_pairs(study, console)
        work.ledger = spec.folder / LEDGER
        create_ledger(spec.folder, header(study))
        if spec.published is not None:
            put_published_points(Path(spec.published), spec.folder)
        with hold_search_lock(spec.folder):
            work.begin(work.ledger)
            return _run(study, console, joined, placement)
    except RAY_FAILS as error:
        work.give_up(f"Ray failed under the search ({type(error).__name__}; ray.log says more)")
        raise
    finally:
        joined.leave()


def resume_search(
    folder: Path, console: Console, trials: int | None = None, work: RunningCommand | None = None
) -> SearchResult:
    """Go on with the study in a run's folder: what its ledger holds is not repeated. trials: a new, larger number.

    Raises StudyError when a search is running there. work: as in `run_search`.
    """
    work = work or RunningCommand()
    _, spec = reopen(folder)
    with hold_search_lock(spec.folder):
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
        more = f"mtpareto resume {spec.folder} --trials N continues to N"
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
            f"--trials {trials} is fewer than the trials the study has ({known}); --trials is how many it shall have "
            "in all: ask for more, or leave it out"
        )


def _run(study: Study, console: Console, joined: cluster.Joined, placement: cluster.Placement) -> SearchResult:
    spec = study.spec
    ledger = read_ledger(spec.folder)
    if spec.store is None:
        ArtefactStore(spec.store_folder).sweep()
    resampling = Resampling(spec.folder, study.data, spec.seed)
    loop = partial(run_loop, study, ledger, console, resampling=resampling, placement=placement, trial=CompressionTrial)
    ended = unless_machine(loop, "search")
    halt = Halt(ended, "") if isinstance(ended, MachineFault) else ended
    joined.leave()
    if halt is not None:
        raise _halted(study, halt, console, resampling.samples)
    return wrap_up(spec, study.data, console, known=resampling.samples)


def _shared(study: Study, console: Console) -> Study:
    """The study with the share of a GPU that a trial takes, where it says none and a GPU of this machine holds several
    trials."""
    spec, memory = study.spec, gpu_memory()
    whole = spec.device_map == "cpu" or spec.training_gpus > 1 or spec.max_concurrent == 1 or study.measures_comet
    if spec.gpus_per_trial is not None or memory is None or whole:
        return study
    there = ray.cluster_resources()
    count = trials_a_gpu(
        Machine(there.get("GPU", 0.0), memory, there.get("CPU", 1.0), available_bytes()),
        translating=running_bytes(study.checkpoint, (), spec.batch_size, request_tokens(study)),
        training=training_bytes(study.checkpoint) if study.training else 0,
        model=study.checkpoint.bytes,
        trials=spec.trials,
    )
    if count == 1:
        return study
    share = share_of(count)
    said = f"{count} trials share a GPU, {share:g} each; with --gpus-per-trial 1 each has its own"
    console.print(f"sharing   {said}", markup=False, highlight=False, soft_wrap=True)
    return replace(study, spec=replace(spec, gpus_per_trial=share))


def _place(study: Study) -> cluster.Placement:
    """Where trials run. Raises StudyError where no trial holds a GPU, and GPU-hours or a GPU's memory are limited or an
    objective."""
    spec = study.spec
    placement = cluster.place(
        spec.cpus_per_trial,
        _gpus_asked(study),
        spec.max_concurrent,
        spec.training_gpus if study.training else 1,
        GPU_SHARE if study.measures_comet else 0.0,
    )
    if spec.gpu_hours is not None and not placement.gpus:
        raise StudyError("gpu_hours limits what trials hold of GPUs, and no trial holds one here; use --hours")
    if spec.max_memory is not None and not placement.gpus:
        raise StudyError("max_memory is of a GPU's memory, and no trial holds one here; use --max-bytes")
    if spec.third == "memory" and not placement.gpus:
        raise StudyError(
            "the objective memory is of a GPU's memory, and no trial holds one here; leave it out of --objectives"
        )
    return placement


def _halted(study: Study, halt: Halt, console: Console, known: Known) -> MachineError:
    """The error that ends a halted search, once its pages are written as far as that can be."""
    spec = study.spec
    written = partial(wrap_up, spec, study.data, console, known=known)
    or_else(written, lambda why: console.print(f"pages     not written: {why}"))
    return MachineError(halt.fault, f" {halt.due}Then resume with: mtpareto resume {spec.folder}")


def _first_artefact(study: Study) -> int:
    """The predicted bytes of the first candidate after the baseline; 0 where there is none."""
    foreseen = proposer_of(study, guided=False).foreseen()
    return next((one.predicted_bytes for one in foreseen if one.candidate.steps), 0)


def _gpus_asked(study: Study) -> float | None:
    """The share of a GPU that a trial takes: what was said; else, where COMET is measured, all but COMET's share."""
    gpus = study.spec.gpus_per_trial
    there = ray.cluster_resources().get("GPU", 0.0) if study.measures_comet else 0.0
    if not there:
        return gpus
    if gpus is None:
        return 1.0 - GPU_SHARE
    if gpus > there - GPU_SHARE:
        raise StudyError(
            f"a trial takes {gpus:g} of {there:g} GPUs, and COMET takes {GPU_SHARE:g}; "
            f"ask for {1.0 - GPU_SHARE:g} with --gpus-per-trial"
        )
    return gpus
