"""Writes a study into MLflow, each run once however often it is told.

A parent run for the study, a child run a trial, a LoggedModel for each kept artefact.

It uses MlflowClient with explicit run ids only: the fluent API's active run would leak from one trial into the next.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_tracking.store import hold_store, is_sqlite
from search_spaces.candidate import Candidate
from search_spaces.methods.registry import step_to_json
from search_spaces.outcome import Failure, Measurement, Outcome, Probe
from workers.scoring.metrics import worst

EXPERIMENT = "mtpareto"
STUDY_TAG = "mtpareto.study"
TRIAL_TAG = "mtpareto.trial"
# What MLflow shows as a run's description, in Markdown.
DESCRIPTION_TAG = "mlflow.note.content"
# MLflow refuses longer parameter values (https://mlflow.org/docs/latest, "Log a param").
PARAM_LIMIT = 6000
# Nor does it take more metrics at a time (the same, "Log Batch").
BATCH_LIMIT = 1000
# The mean over language pairs of how far a candidate lies from the base model, in nats.
DIVERGENCE = "divergence_nats"
# What a curve's points say, after their tokens (`search_spaces.curve.CurvePoint`).
SPEED_CURVE = "training_tokens_s"
CURVES = ("training_loss", SPEED_CURVE, "held_out_chrf")


@dataclass(frozen=True, slots=True)
class MirroredTrial:
    """A trial as the mirror needs it."""

    number: int
    """The trial's number, 0 for the baseline."""
    candidate: Candidate
    """What was tried."""
    split: str
    """The data that it was measured on."""
    outcome: Outcome
    """How the trial ended."""
    started: str
    """When it began: ISO 8601, UTC."""
    ended: str
    """When it ended: ISO 8601, UTC."""
    worker: str
    """The worker that ran it."""
    attempt: int
    """Which attempt it was, from 1."""
    more: Mapping[str, float]
    """Numbers that depend on the whole study, such as `on_frontier`."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Texts that depend on the whole study, such as why a trial was dropped early; they become tags."""

    @property
    def uid(self) -> str:
        return f"{self.candidate.digest}.{self.split}"


class Mirror:
    """One study's place in an MLflow store.

    Every method searches for what it would create by a tag, so a search that is resumed, or mirrored again, makes
    nothing twice. Raises mlflow.MlflowException when the store can't be reached or refuses.
    """

    def __init__(self, tracking_uri: str, study: str, artefacts: Path, experiment: str = EXPERIMENT) -> None:
        """study: what identifies the study (its run folder). artefacts: where a new local store keeps its files.
        experiment: MLflow's grouping, made where it is missing."""
        from mlflow import MlflowClient

        # It logs each error of its database with a traceback before it raises it; who catches it tells it.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        self._study = _study_tag(study)
        with hold_store(tracking_uri):
            self._client = MlflowClient(tracking_uri=tracking_uri)
            self._experiment = self._experiment_id(experiment, artefacts if is_sqlite(tracking_uri) else None)
        self._parent: str | None = None

    def study(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """The id of the study's parent run, created at the first call."""
        if self._parent is None:
            found = self._find(f"tags.`{STUDY_TAG}` = '{self._study}'")
            self._parent = found or self._create(name, {STUDY_TAG: self._study, **tags}, params, None)
        return self._parent

    def trial(self, trial: MirroredTrial) -> str:
        """The id of the trial's child run; made once, its numbers brought up to date."""
        parent = self._parent_id()
        found = self._find(f"tags.`{TRIAL_TAG}` = '{trial.uid}' and tags.`mlflow.parentRunId` = '{parent}'")
        if found is None:
            started = _milliseconds(trial.started)
            found = self._create(_name(trial), _tags(trial, parent), _params(trial), started)
        elif self._client.get_run(found).info.run_name != _name(trial):
            self._client.update_run(found, name=_name(trial))
        self._log_metrics(found, _metrics(trial), _milliseconds(trial.ended))
        self._log_curves(found, trial)
        self._tag(found, trial.words)
        status = "FAILED" if isinstance(trial.outcome, Failure) else "FINISHED"
        self._client.set_terminated(found, status, _milliseconds(trial.ended))
        return found

    def model(self, trial: MirroredTrial, run_id: str, folder: Path) -> str:
        """The id of the LoggedModel of a kept artefact: its folder stays where it is and is named, not uploaded."""
        name = folder.name
        query = f"name = '{name}' and tags.`{TRIAL_TAG}` = '{trial.uid}' and tags.`{STUDY_TAG}` = '{self._study}'"
        found = self._client.search_logged_models([self._experiment], filter_string=query, max_results=1)
        if found:
            return str(found[0].model_id)
        tags = {
            TRIAL_TAG: trial.uid,
            STUDY_TAG: self._study,
            "artefact": str(folder),
            "mlflow.model.isExternal": "true",
        }
        model = self._client.create_logged_model(
            self._experiment,
            name=name,
            source_run_id=run_id,
            tags=tags,
            params=_params(trial),
            model_type="translation-llm",
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        self._name_as_output(run_id, model.model_id)
        at = _milliseconds(trial.ended)
        for key, value in _metrics(trial).items():
            self._client.log_metric(run_id, key, value, timestamp=at, model_id=model.model_id)
        return str(model.model_id)

    def finish(self, status: str, metrics: Mapping[str, float], files: list[Path]) -> None:
        """Give the parent run the study's own numbers and its report, and end it ("FINISHED" or "KILLED") unless it is
        "RUNNING"."""
        parent = self._parent_id()
        self._log_metrics(parent, metrics, None)
        for file in files:
            self._client.log_artifact(parent, str(file))
        if status == "RUNNING":
            self._client.update_run(parent, status=status)
        else:
            self._client.set_terminated(parent, status)

    def _experiment_id(self, name: str, artefacts: Path | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artefacts.as_uri() if artefacts else None))
            except MlflowException:
                # On a server another search may have made it meanwhile.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _find(self, query: str) -> str | None:
        runs = self._client.search_runs([self._experiment], query, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _create(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any], started: int | None) -> str:
        from mlflow.entities import Param

        run = self._client.create_run(self._experiment, start_time=started, tags=dict(tags), run_name=name)
        run_id = str(run.info.run_id)
        values = [Param(key, _param(value)) for key, value in params.items()]
        self._client.log_batch(run_id, params=values)
        return run_id

    def _log_metrics(self, run_id: str, metrics: Mapping[str, float], at: int | None) -> None:
        from mlflow.entities import Metric

        have = self._client.get_run(run_id).data.metrics
        now = int(datetime.now().timestamp() * 1000)
        # Of one moment's values MLflow shows the largest, so one that has changed, as `on_frontier` may, is of now.
        new = [
            Metric(key, value, now if at is None or key in have else at, 0)
            for key, value in metrics.items()
            if have.get(key) != value
        ]
        if new:
            self._client.log_batch(run_id, metrics=new)

    def _log_curves(self, run_id: str, trial: MirroredTrial) -> None:
        """Log the curves of the steps that trained, by tokens read; one whose end is there is whole."""
        from mlflow.entities import Metric

        have = self._client.get_run(run_id).data.metrics
        at = _milliseconds(trial.ended)
        for key, points in _curves(trial.outcome).items():
            if have.get(key) != points[-1][1]:
                metrics = [Metric(key, value, at, tokens) for tokens, value in points]
                for begin in range(0, len(metrics), BATCH_LIMIT):
                    self._client.log_batch(run_id, metrics=metrics[begin : begin + BATCH_LIMIT])

    def _tag(self, run_id: str, words: Mapping[str, str]) -> None:
        """Set the tags that are new or have changed; an empty word is written only over another."""
        from mlflow.entities import RunTag

        have = self._client.get_run(run_id).data.tags
        new = [RunTag(key, value) for key, value in words.items() if have.get(key, "") != value]
        if new:
            self._client.log_batch(run_id, tags=new)

    def _name_as_output(self, run_id: str, model_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])

    def _parent_id(self) -> str:
        if self._parent is None:
            raise RuntimeError("the study's own run comes first: call Mirror.study before its trials")
        return self._parent


def _study_tag(study: str) -> str:
    """What a study's runs are found by: its folder, or that folder's URI where it has an apostrophe."""
    # MLflow's filters have no escape for the quotes around a value, and a folder's name may have both kinds.
    return f"file://{quote(study)}" if "'" in study else study


def metric_key(metric: str, split: str = "dev") -> str:
    """What a metric is called in MLflow, whose names take no plus sign. On test, which judges and does not select, it
    has a name of its own (`test_chrf`), so that no table or plot mixes the two."""
    return _of_split(metric.replace("+", "p"), split)


def _of_split(name: str, split: str) -> str:
    return name if split == "dev" else f"{split}_{name}"


def _name(trial: MirroredTrial) -> str:
    """Its number, its quality, which a list of runs shows by nothing else, and its steps."""
    where = "" if trial.split == "dev" else f" [{trial.split}]"
    outcome, quality = trial.outcome, ""
    if isinstance(outcome, Measurement) and outcome.race is None:
        metric = next(iter(outcome.scores))
        quality = f"{metric} {outcome.overall(metric):.2f}, "
    return f"{trial.number}: {quality}{trial.candidate.describe() or 'baseline'}{where}"


def _tags(trial: MirroredTrial, parent: str) -> dict[str, str]:
    tags = {
        TRIAL_TAG: trial.uid,
        "mlflow.parentRunId": parent,
        "kind": trial.candidate.kind,
        "split": trial.split,
        "worker": trial.worker,
        "attempt": str(trial.attempt),
    }
    if isinstance(trial.outcome, Failure):
        tags |= {
            "failure": trial.outcome.reason,
            "failure.stage": trial.outcome.stage,
            "failure.message": trial.outcome.message,
        }
    elif not isinstance(trial.outcome, Probe):
        tags |= {f"condition.{key}": value for key, value in trial.outcome.conditions.items()}
        if isinstance(trial.outcome, Measurement) and trial.outcome.notes:
            tags[DESCRIPTION_TAG] = _param("\n".join(f"- {note}" for note in trial.outcome.notes))
    return tags


def _params(trial: MirroredTrial) -> dict[str, str]:
    params = {
        "model": trial.candidate.base.name,
        "revision": trial.candidate.base.revision,
        "steps": trial.candidate.describe() or "baseline",
        "split": trial.split,
    }
    for step in trial.candidate.steps:
        record = step_to_json(step)
        params |= {f"{record['method']}.{key}": _param(value) for key, value in record.items() if key != "method"}
    return params


def _metrics(trial: MirroredTrial) -> dict[str, float]:
    metrics: dict[str, float] = {**trial.more}
    outcome = trial.outcome
    if not isinstance(outcome, Measurement):
        return metrics
    race = outcome.race
    for metric, by_pair in outcome.scores.items():
        # A raced trial's scores are of some segments only: under the metric's own name they would be compared.
        name = ("raced." if race else "") + metric_key(metric, trial.split)
        metrics[name] = outcome.overall(metric)
        values = {pair: score.value for pair, score in by_pair.items()}
        metrics[f"{name}.worst_pair"] = values[worst(metric, values)]
        metrics |= {f"{name}.{pair}": value for pair, value in values.items()}
    if race is not None:
        metrics |= {f"race.{name}": float(getattr(race, name)) for name in ("segments", "low", "high", "projected")}
    if outcome.divergence:
        metrics[DIVERGENCE] = outcome.nats
    of_split = {f"sanity.{check}": share for check, share in outcome.sanity.items()}
    of_split |= {f"seconds.{stage}": value for stage, value in outcome.seconds.items()}
    of_split |= {name: float(getattr(outcome, name)) for name in ("segments", "truncated", "tokens")}
    metrics |= {_of_split(name, trial.split): value for name, value in of_split.items()}
    return metrics | {
        "bytes": float(outcome.footprint.bytes),
        "compressed_fraction": outcome.footprint.compressed_fraction,
    }


def _curves(outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    """metric -> (tokens read, value); the second step that trained has `training_loss_2`, and so on."""
    if not isinstance(outcome, Measurement):
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    for number, curve in enumerate(outcome.curves, start=1):
        for place, name in enumerate(CURVES, start=1):
            key = name if number == 1 else f"{name}_{number}"
            # Where a training begins there is no speed yet, and no loss.
            said = [point for point in curve.points if name != SPEED_CURVE or point[1] is not None]
            found[key] = [(point[0], value) for point in said if (value := point[place]) is not None]
    return {key: points for key, points in found.items() if points}


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:PARAM_LIMIT]


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
