"""Addresses of MLflow's pages: the runs of an experiment, and of one study in it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from mlflow_tracking.registry import STUDY_TAG, study_tag

# The tag that a study's run and its trials share: its name.
NAME_TAG = "study"
# Which of its two sets of pages the UI shows; else it shows what a browser saw last, at first those for agents.
MODEL_TRAINING = {"workflowType": "machine_learning"}


class Place(NamedTuple):
    """Where a study stands in a store."""

    experiment: str
    """The experiment's id."""
    name: str
    """The study's name."""


def find_place(uri: str, study: str, name: str, experiment: str) -> Place | None:
    """The study's place in a store, or None where it is not there. study: its folder. experiment: by name.

    Raises mlflow.MlflowException when the store can't be reached.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs([found.experiment_id], f"tags.`{STUDY_TAG}` = '{study_tag(study)}'", max_results=1)
    return Place(str(found.experiment_id), name) if runs else None


def page(address: str, place: Place | None) -> str:
    """The page of a server that shows the study's runs, or all experiments."""
    if place is None:
        return f"{address}/#/experiments?{urlencode(MODEL_TRAINING)}"
    asked = {**MODEL_TRAINING, **_filter(place.name)}
    return f"{address}/#/experiments/{place.experiment}/runs?{urlencode(asked)}"


def _filter(name: str) -> dict[str, str]:
    """The search that leaves the study's runs; none where its name has both kinds of quotes, which MLflow refuses."""
    quote = next((mark for mark in "'\"" if mark not in name), None)
    return {} if quote is None else {"searchFilter": f"tags.{NAME_TAG} = {quote}{name}{quote}"}
