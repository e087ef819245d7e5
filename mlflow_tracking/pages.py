"""Addresses of MLflow's pages: the experiments, and one study's view of its runs."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from mlflow_tracking.registry import STUDY_TAG, study_tag
from mlflow_tracking.views import VIEW_TAG, study_filter, view_key

# Which of its two sets of pages the UI shows; else it shows what a browser saw last, at first those for agents.
MODEL_TRAINING = {"workflowType": "machine_learning"}


class Place(NamedTuple):
    """Where a study stands in a store."""

    experiment: str
    """The experiment's id."""
    asked: dict[str, str]
    """What leaves the study's runs on the experiment's page."""


def find_place(uri: str, study: str, name: str, experiment: str) -> Place | None:
    """The study's place in a store, or None where it is not there. study: its folder. name: the study's. experiment: by
    name.

    Raises mlflow.MlflowException when the store can't be reached.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs([found.experiment_id], f"tags.`{STUDY_TAG}` = '{study_tag(study)}'", max_results=1)
    if not runs:
        return None
    parent = str(runs[0].info.run_id)
    key = view_key(parent)
    # A search beside a view would take its place.
    there = f"{VIEW_TAG}{key}" in found.tags
    asked = {"viewStateShareKey": key} if there else {"searchFilter": study_filter(name, parent)}
    return Place(str(found.experiment_id), asked)


def page(address: str, place: Place | None) -> str:
    """The page of a server that shows the study's runs, or all experiments."""
    if place is None:
        return f"{address}/#/experiments?{urlencode(MODEL_TRAINING)}"
    return f"{address}/#/experiments/{place.experiment}/runs?{urlencode({**MODEL_TRAINING, **place.asked})}"
