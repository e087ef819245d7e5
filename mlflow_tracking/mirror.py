"""Writes a study into MLflow, each run once however often it is told.

A parent run for the study, a child run a trial, a LoggedModel for each kept artefact.

It uses MlflowClient with explicit run ids only: the fluent API's active run would leak from one trial into the next.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlflow_tracking.data_sets import MirroredData, input_of, is_input
from mlflow_tracking.earlier import is_earlier, set_apart
from mlflow_tracking.experiment import introduce
from mlflow_tracking.registry import STUDY_TAG, KeptModel, register, study_tag
from mlflow_tracking.standing import not_others
from mlflow_tracking.store import hold_store, is_sqlite
from mlflow_tracking.trial_fields import (
    NAME_TAG,
    TRIAL_TAG,
    UNSAID,
    MirroredTrial,
    as_param,
    curves_of,
    metric_key,
    metrics_of,
    milliseconds,
    name_of,
    params_of,
    tags_of,
)
from mlflow_tracking.views import view_tag
from search_spaces.outcome import Failure

EXPERIMENT = "mtpareto"
# MLflow takes no more metrics at a time (https://mlflow.org/docs/latest, "Log Batch").
BATCH_LIMIT = 1000


class Progress(NamedTuple):
    """What a study had at a step, which counts its trials."""

    step: int
    at: str
    """When: ISO 8601."""
    found: Mapping[str, float]
    """Metric -> value."""


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
        self._study = study_tag(study)
        self._is_server = urlsplit(tracking_uri).scheme in ("http", "https")
        with hold_store(tracking_uri):
            self._client = MlflowClient(tracking_uri=tracking_uri)
            found = self._made(experiment, artefacts if is_sqlite(tracking_uri) else None)
        self._experiment = str(found.experiment_id)
        introduce(self._client, found)
        # The experiment's tags, of which a study's view is one.
        self._views: dict[str, str] = dict(found.tags)
        self._parent: str | None = None
        self._name = ""
        # The tags of the parent run that `about` has written.
        self._about: dict[str, str] = {}
        # The steps that the parent run has of each metric over time, as far as they were asked for.
        self._steps: dict[str, set[int]] = {}

    def study(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], started: str | None = None) -> str:
        """The id of the study's parent run, created at the first call. started: when the study began, ISO 8601: the
        records of an earlier study in the same folder are set apart."""
        if self._parent is None:
            found = self._find(f"tags.`{STUDY_TAG}` = '{self._study}'")
            at = None if started is None else milliseconds(started)
            if found is not None and at is not None and is_earlier(found, at):
                set_apart(self._client, found, self._experiment, self._study, name)
                found = None
            self._parent = (
                str(found.info.run_id)
                if found
                else self._create(name, {STUDY_TAG: self._study, NAME_TAG: name, **tags}, params, at)
            )
            self._name = name
            if found:
                self._tag(found, {NAME_TAG: name})
        return self._parent

    def about(self, tags: Mapping[str, str]) -> None:
        """Set the tags of the study's run that are new or have changed."""
        if self._about != tags:
            self._tag(self._client.get_run(self._parent_id()), tags)
            self._about = dict(tags)

    def inputs(self, data: Sequence[MirroredData]) -> None:
        """Have the study's run name its data sets."""
        parent = self._client.get_run(self._parent_id())
        new = [input_of(one) for one in data if not is_input(parent, one)]
        if new:
            self._client.log_inputs(parent.info.run_id, datasets=new)

    def view(self, quality: str) -> None:
        """Keep the study's view among those of the experiment. quality: the metric of its frontier."""
        key, value = view_tag(self._name, self._parent_id(), metric_key(quality))
        if self._views.get(key) != value:
            self._client.set_experiment_tag(self._experiment, key, value)
            self._views[key] = value

    def trial(self, trial: MirroredTrial) -> str:
        """The id of the trial's child run; made once, its numbers brought up to date."""
        parent, name = self._parent_id(), name_of(trial)
        run = self._find(f"tags.`{TRIAL_TAG}` = '{trial.uid}' and tags.`mlflow.parentRunId` = '{parent}'")
        if run is None:
            tags = {**tags_of(trial, parent), NAME_TAG: self._name}
            made = self._create(name, tags, params_of(trial), milliseconds(trial.started))
            run = self._client.get_run(made)
        run_id = str(run.info.run_id)
        if run.info.run_name != name:
            self._client.update_run(run_id, name=name)
        self._log_metrics(run, metrics_of(trial), milliseconds(trial.ended))
        self._log_curves(run, trial)
        self._tag(run, {**not_others(trial.words, run.data.tags), NAME_TAG: self._name})
        if trial.data is not None and not is_input(run, trial.data):
            self._client.log_inputs(run_id, datasets=[input_of(trial.data)])
        status = "FAILED" if isinstance(trial.outcome, Failure) else "FINISHED"
        self._client.set_terminated(run_id, status, milliseconds(trial.ended))
        return run_id

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
            params=params_of(trial),
            model_type="translation-llm",
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        self._name_as_output(run_id, model.model_id)
        self._log_of_model(trial, run_id, str(model.model_id))
        return str(model.model_id)

    def register(self, name: str, models: Sequence[KeptModel], aliases: Sequence[str]) -> str | None:
        """Bring the study's registered model up to date; returns its name, or None where nothing was ever kept.

        name: the study's. aliases: all that a study gives, those that no model has earned too.
        """
        return register(self._client, self._study, name, models, aliases, self._is_server)

    def _log_of_model(self, trial: MirroredTrial, run_id: str, model_id: str) -> None:
        """Tie the trial's metrics to its model, and to the data that they were measured on."""
        from mlflow.entities import Metric

        about: dict[str, str] = {"model_id": model_id}
        if trial.data is not None:
            about |= {"dataset_name": trial.data.name, "dataset_digest": trial.data.digest}
        at = milliseconds(trial.ended)
        said = {key: value for key, value in metrics_of(trial).items() if UNSAID.get(key) != value}
        metrics = [Metric(key, value, at, 0, **about) for key, value in said.items()]
        self._client.log_batch(run_id, metrics=metrics)

    def progress(self, moments: Sequence[Progress]) -> None:
        """Write the study's numbers over time to its parent run, each step of a metric once."""
        from mlflow.entities import Metric

        parent = self._parent_id()
        names = {name for moment in moments for name in moment.found}
        for name in names - self._steps.keys():
            self._steps[name] = {one.step for one in self._client.get_metric_history(parent, name)}
        new = [
            Metric(name, value, milliseconds(moment.at), moment.step)
            for moment in moments
            for name, value in moment.found.items()
            if moment.step not in self._steps[name]
        ]
        for begin in range(0, len(new), BATCH_LIMIT):
            self._client.log_batch(parent, metrics=new[begin : begin + BATCH_LIMIT])
        for metric in new:
            self._steps[metric.key].add(metric.step)

    def finish(
        self,
        status: str,
        metrics: Mapping[str, float],
        files: Sequence[Path],
        texts: Mapping[str, str] | None = None,
        ended: str | None = None,
    ) -> None:
        """Give the parent run the study's own numbers and its pages, and end it ("FINISHED" or "KILLED") unless it is
        "RUNNING". texts: artifacts by name. ended: when the study did, ISO 8601; None is now."""
        parent = self._parent_id()
        self._log_metrics(self._client.get_run(parent), metrics, None)
        for name, text in (texts or {}).items():
            self._client.log_text(parent, text, name)
        for file in files:
            self._client.log_artifact(parent, str(file))
        if status == "RUNNING":
            self._client.update_run(parent, status=status)
        else:
            self._client.set_terminated(parent, status, None if ended is None else milliseconds(ended))

    def _made(self, name: str, artefacts: Path | None) -> Any:
        """MLflow's experiment of that name, made where it is missing."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                self._client.create_experiment(name, artefacts.as_uri() if artefacts else None)
            except MlflowException:
                # On a server another search may have made it meanwhile.
                if self._client.get_experiment_by_name(name) is None:
                    raise
            found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise MlflowException(
                f"the experiment {name} was deleted; restore it with `mlflow experiments restore --experiment-id "
                f"{found.experiment_id}` and MLFLOW_TRACKING_URI set, or begin studies with another --experiment"
            )
        return found

    def _find(self, query: str) -> Any | None:
        """MLflow's run that the query finds."""
        runs = self._client.search_runs([self._experiment], query, max_results=1)
        return runs[0] if runs else None

    def _create(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any], started: int | None) -> str:
        from mlflow.entities import Param

        run = self._client.create_run(self._experiment, start_time=started, tags=dict(tags), run_name=name)
        run_id = str(run.info.run_id)
        values = [Param(key, as_param(value)) for key, value in params.items()]
        self._client.log_batch(run_id, params=values)
        return run_id

    def _log_metrics(self, run: Any, metrics: Mapping[str, float], at: int | None) -> None:
        from mlflow.entities import Metric

        have = run.data.metrics
        now = int(datetime.now().timestamp() * 1000)
        # Of one moment's values MLflow shows the largest, so one that has changed, as `on_frontier` may, is of now.
        new = [
            Metric(key, value, now if at is None or key in have else at, 0)
            for key, value in metrics.items()
            if have.get(key, UNSAID.get(key)) != value
        ]
        if new:
            self._client.log_batch(run.info.run_id, metrics=new)

    def _log_curves(self, run: Any, trial: MirroredTrial) -> None:
        """Log the curves of the steps that trained, by tokens read; one whose end is there is whole."""
        from mlflow.entities import Metric

        have = run.data.metrics
        at = milliseconds(trial.ended)
        for key, points in curves_of(trial.outcome).items():
            if have.get(key) != points[-1][1]:
                metrics = [Metric(key, value, at, tokens) for tokens, value in points]
                for begin in range(0, len(metrics), BATCH_LIMIT):
                    self._client.log_batch(run.info.run_id, metrics=metrics[begin : begin + BATCH_LIMIT])

    def _tag(self, run: Any, words: Mapping[str, str]) -> None:
        """Set the tags that are new or have changed; an empty word is written only over another."""
        from mlflow.entities import RunTag

        have = run.data.tags
        new = [RunTag(key, value) for key, value in words.items() if have.get(key, "") != value]
        if new:
            self._client.log_batch(run.info.run_id, tags=new)

    def _name_as_output(self, run_id: str, model_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])

    def _parent_id(self) -> str:
        if self._parent is None:
            raise RuntimeError("the study's own run comes first: call Mirror.study before its trials")
        return self._parent
