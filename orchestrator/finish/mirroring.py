"""Keeps MLflow in step with the ledger from a thread of its own; an MLflow that is down can't stop or fail a search.

Hooks of Tune only put a word in the queue, which can't raise. What could not be written stays due, and is written at
the end, by the next resume, or by `mtpareto mirror`.
"""

from __future__ import annotations

import logging
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml

from mlflow_tracking.data_sets import MirroredData
from mlflow_tracking.experiment import DESCRIPTION_TAG
from mlflow_tracking.loadable import make_loadable
from mlflow_tracking.mirror import Mirror, Progress
from mlflow_tracking.registry import KeptModel
from mlflow_tracking.trial_fields import MirroredTrial, metric_key
from orchestrator.finish.history import history
from orchestrator.finish.model_card import model_card
from orchestrator.finish.trial_standing import dropped_words, standing_numbers, standing_words
from orchestrator.ledger.records import Key, Ledger, TrialRecord, read_ledger
from orchestrator.results.picking import WORDS, aliases
from orchestrator.results.points import Dropped, Point, Results, quality_of
from orchestrator.results.standing import race_text
from orchestrator.statistics.frontier import Objectives
from orchestrator.statistics.hypervolume import own_shares
from orchestrator.study.values import all_of
from search_spaces.errors import StudyError
from search_spaces.outcome import Measurement
from workers.evaluation.attempt import or_else
from workers.plan.evaluation_plan import CONTROL_SPLITS, PROFILE_SPLIT, SPEED_SPLIT, data_split
from workers.reading.segments import name_files

log = logging.getLogger(__name__)

# The study's settings among the artifacts of its run.
SETTINGS = "study.yaml"
# What a study's run says of its trials' conditions.
OF_TRIALS = ("device", "torch", "transformers", "bitsandbytes", "compressed-tensors")

Connect = Callable[[], Mirror]


def mirror_ledger(
    mirror: Mirror, folder: Path, ledger: Ledger, done: set[str], known: Mapping[Key, MirroredTrial] | None = None
) -> dict[Key, str]:
    """Write the study, every trial that is not in `done` yet, and what the study had after each; adds each trial to
    `done` as it is written, and returns their runs' ids.

    known: trials of which more is known than the ledger says of each alone.
    """
    spec = dict(ledger.header["spec"])
    mirror.study(folder.name, spec, {"folder": str(folder)}, ledger.header["conditions"].get("started"))
    mirror.about(study_conditions(ledger))
    mirror.view(quality_of(ledger.header))
    data, baselines, runs = study_data(ledger), _baselines(ledger), {}
    # A speed has no run of its own: it stands beside its point's scores. Nor has a probe, which scores nothing.
    others = (SPEED_SPLIT, PROFILE_SPLIT)
    splits = dict.fromkeys(record.split for record in ledger.trials if record.split not in others)
    for record in (record for split in splits for record in ledger.on(split)):
        trial = (known or {}).get(record.key) or mirrored_trial(record)
        if trial.uid not in done:
            split = data_split(record.split)
            more = {**kept_percent(trial, baselines.get(split)), **trial.more}
            runs[record.key] = mirror.trial(replace(trial, more=more, data=data.get(split)))
            done.add(trial.uid)
    mirror.progress([Progress(*moment) for moment in history(ledger)])
    return runs


def mirror_results(
    mirror: Mirror,
    folder: Path,
    ledger: Ledger,
    results: Results,
    kept: dict[int, Path],
    status: str,
    files: list[Path],
    held_out: Results | None = None,
    said: str = "",
) -> list[KeptModel]:
    """Bring the whole study up to date: each trial with its standing, a model a kept artefact, the report. Returns the
    models that are registered.

    held_out: what the same candidates have on held-out data. said: what the study recommends, in words.
    """
    places = _places(results, float(ledger.header["spec"].get("floor") or 0.0))
    known = {point.record.key: mirrored_trial(point.record) for point in (held_out.points if held_out else ())}
    for point in results.points:
        key = point.record.key
        words = standing_words(point, int(places[key]["rank"]), len(results.frontier))
        known[key] = mirrored_trial(point.record, {**standing_numbers(point), **places[key]}, words)
    for dropped in results.dropped:
        standing = {"ratio": dropped.ratio, "on_frontier": 0.0, "hypervolume_share": 0.0}
        known[dropped.record.key] = mirrored_trial(dropped.record, standing, dropped_words(dropped))
    runs = mirror_ledger(mirror, folder, ledger, set(), known)
    models: list[KeptModel] = []
    data, named = study_data(ledger), aliases(results)
    ended: list[Point | Dropped] = [*results.points, *results.dropped]
    for found in ended:
        record = found.record
        if record.number in kept:
            model_folder, run_id = kept[record.number], runs[record.key]
            trial = replace(known[record.key], data=data.get(record.split))
            earned = tuple(alias for alias, number in named.items() if number == record.number)
            card = model_card(found, results.baseline, model_folder, ledger.header["conditions"].get("base model"))
            model_id = mirror.model(trial, run_id, model_folder)
            models.append(KeptModel(trial.uid, run_id, model_id, model_folder, card, record.ended, earned))
    mirror.register(folder.name, models, tuple(WORDS))
    counts = {
        "trials": float(len(results.points) + len(results.failures) + len(results.dropped)),
        "failures": float(len(results.failures)),
        "dropped": float(len(results.dropped)),
        "kept_off": float(len(results.kept_off)),
        "frontier_points": float(len(results.frontier)),
    }
    mirror.inputs(list(data.values()))
    mirror.about({**study_conditions(ledger), DESCRIPTION_TAG: said})
    numbers = {**counts, **_headlines(results, held_out)}
    last = max((record.ended for record in ledger.trials), default=None)
    mirror.finish(status, numbers, files, {SETTINGS: settings_text(ledger)}, last)
    return models


def make_models_loadable(models: Sequence[KeptModel], folder: Path, trust_remote_code: bool) -> None:
    """Give each model's folder what `mlflow.pyfunc.load_model` needs; of one where that can't be, warn.

    folder: the run's.
    """
    for model in models:

        def told(why: str, name: str = model.folder.name) -> None:
            log.warning(
                "mlflow.pyfunc can't load %s, for its files could not be made: %s; then try again with: mtpareto "
                "mirror %s",
                name,
                why,
                folder,
            )

        or_else(partial(make_loadable, model, trust_remote_code), told)


def settings_text(ledger: Ledger) -> str:
    """The study's settings as a study file."""
    return yaml.safe_dump(dict(ledger.header["spec"]), sort_keys=False, allow_unicode=True)


def study_conditions(ledger: Ledger) -> dict[str, str]:
    """What the study was run under, as tags: when it began, its device, and the versions of the driver and of the
    trials."""
    measured = next((one.outcome for one in ledger.trials if isinstance(one.outcome, Measurement)), None)
    of_trials = {} if measured is None else {name: measured.conditions.get(name) for name in OF_TRIALS}
    conditions = {**ledger.header["conditions"], **of_trials}
    return {f"condition.{name}": str(value) for name, value in conditions.items() if value is not None}


def study_data(ledger: Ledger) -> dict[str, MirroredData]:
    """Split -> the data set that trials are measured on, with its size where a trial says it."""
    spec = ledger.header["spec"]
    files = {"dev": all_of(spec.get("data")), "test": all_of(spec.get("test"))}
    return {
        split: MirroredData(name_files(files[split]), digest, ", ".join(files[split]), split, _counts(ledger, split))
        for split, digest in ledger.header.get("data", {}).items()
        if files.get(split)
    }


def _counts(ledger: Ledger, split: str) -> dict[str, int]:
    measured = (one.measurement for one in ledger.trials if one.split == split)
    whole = next((one for one in measured if one is not None and one.race is None), None)
    if whole is None:
        return {}
    return {"segments": whole.segments, "language_pairs": len(next(iter(whole.scores.values())))}


def _baselines(ledger: Ledger) -> dict[str, Measurement]:
    """Split -> what the uncompressed model has there."""
    records = (record for record in ledger.trials if not record.candidate.steps)
    return {record.split: record.measurement for record in records if record.measurement is not None}


def kept_percent(trial: MirroredTrial, baseline: Measurement | None) -> dict[str, float]:
    """The quality in percent of the uncompressed model's, as `chrf_kept_percent`, where both have it on all segments.

    The quality is a measurement's first metric.
    """
    outcome = trial.outcome
    if baseline is None or not isinstance(outcome, Measurement) or outcome.race is not None:
        return {}
    quality = next(iter(outcome.scores))
    if quality not in baseline.scores or baseline.overall(quality) <= 0:
        return {}
    share = outcome.overall(quality) / baseline.overall(quality)
    return {metric_key(f"{quality}_kept_percent", trial.split): 100 * share}


def _places(results: Results, floor: float) -> dict[Key, dict[str, float]]:
    """Of each point its place on the frontier, 1 for the smallest, and its own share of the frontier's hypervolume; 0
    and 0 off the frontier."""
    front, baseline = results.frontier, results.baseline
    shares = [0.0] * len(front)
    if baseline is not None:
        sizes = [Objectives(point.quality, point.bytes) for point in front]
        shares = own_shares(sizes, Objectives(baseline.quality, baseline.bytes), floor)
    found = {point.record.key: {"rank": 0.0, "hypervolume_share": 0.0} for point in results.points}
    for rank, (point, share) in enumerate(zip(reversed(front), reversed(shares), strict=True), start=1):
        found[point.record.key] = {"rank": float(rank), "hypervolume_share": share}
    return found


def _headlines(results: Results, held_out: Results | None) -> dict[str, float]:
    """What a list of studies shows: the quality of the baseline, and of each alias its model's, the held-out one as
    `test_…`, and how many times smaller it is: `smallest_at_99.ratio`."""
    on_test = {point.record.candidate.digest: point for point in held_out.points} if held_out else {}
    shown = {} if results.baseline is None else {"baseline": results.baseline}
    by_number = {point.record.number: point for point in results.points}
    shown |= {alias.replace("-", "_"): by_number[number] for alias, number in aliases(results).items()}
    found: dict[str, float] = {}
    for name, point in shown.items():
        found[f"{name}.{metric_key(results.metric)}"] = point.quality
        if point is not results.baseline:
            found[f"{name}.ratio"] = point.ratio
        if (judged := on_test.get(point.record.candidate.digest)) is not None:
            found[f"{name}.{metric_key(results.metric, 'test')}"] = judged.quality
    return {name: value for name, value in found.items() if math.isfinite(value)}


def mirrored_trial(
    record: TrialRecord, more: Mapping[str, float] | None = None, words: Mapping[str, str] | None = None
) -> MirroredTrial:
    """A ledger record as the mirror takes it. more, words: what the whole study adds, as metrics and as tags."""
    measurement = record.measurement
    race = {"race": race_text(measurement.race)} if measurement and measurement.race else {}
    mark = {"reference": "true"} if record.reference else {}
    control = {"control": "true"} if record.split in CONTROL_SPLITS else {}
    return MirroredTrial(
        number=record.number,
        candidate=record.candidate,
        split=record.split,
        outcome=record.outcome,
        started=record.started,
        ended=record.ended,
        worker=record.worker,
        attempt=record.attempt,
        more={**expected_of(record), **(more or {})},
        words={**race, **mark, **control, **(words or {})},
    )


def expected_of(record: TrialRecord) -> dict[str, float]:
    """What was expected of a trial that a profile chose, as metrics; empty for others."""
    return {f"expected_{name}": value for name, value in record.why.items()}


class MirrorThread:
    """Mirrors new ledger lines while a search runs."""

    def __init__(self, connect: Connect, folder: Path) -> None:
        self._connect = connect
        self._folder = folder
        self._words: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # Imported here, not in the thread: Ray Tune imports MLflow too, and two threads that do so at once can end in
        # each other's locks.
        self._troubles = mlflow_troubles()
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Say that the ledger has grown; returns at once."""
        self._words.put(True)

    def stop(self, timeout: float) -> None:
        """Let it finish what it is writing, for at most `timeout` seconds."""
        self._words.put(False)
        self._thread.join(timeout)

    def _run(self) -> None:
        mirror: Mirror | None = None
        done: set[str] = set()
        warned = False
        while self._words.get():
            try:
                mirror = mirror or self._connect()
                mirror_ledger(mirror, self._folder, read_ledger(self._folder), done)
            except StudyError as error:
                # The ledger is gone or damaged, which stops the search itself.
                log.warning("MLflow is not written to any more: %s", error)
                return
            except self._troubles as error:
                if not warned:
                    log.warning(
                        "MLflow can't be written to (%s); the search continues, and the ledger keeps everything",
                        spell_trouble(error),
                    )
                    warned = True


def spell_trouble(error: Exception) -> str:
    """MLflow's error in a line: of one from its database what the database said, without the statement."""
    text = str(error)
    said = re.search(r"^\((?:\w+\.)+\w+\) (.+)$", text, re.MULTILINE)
    return said.group(1) if said else text.partition("\n")[0]


def mlflow_troubles() -> tuple[type[Exception], ...]:
    """What MLflow raises where its store can't be reached, written to, or is being made by another process."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, OSError
