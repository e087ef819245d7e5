"""The records of an earlier study whose folder a new one has taken: they stay, and are found under another name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mlflow_tracking.registry import KEPT_TAG, STUDY_TAG, registered
from mlflow_tracking.trial_fields import NAME_TAG, TRIAL_TAG

# A study's run begins when the study does; where an older version of this project made it, a little later.
SLACK_MS = 1000
# What MLflow returns of a search at a time.
PAGE = 100


def is_earlier(parent: Any, started: int) -> bool:
    """Whether a study's run is of another study than the one that began at `started`, in milliseconds."""
    return int(parent.info.start_time) + SLACK_MS < started


def set_apart(client: Any, parent: Any, experiment: str, study: str, name: str) -> None:
    """Have the study of this run, its trials and its models no longer be found as `study`: their names say when it
    began. study: the tag that both studies' records have. name: what both studies are called."""
    run_id, began = parent.info.run_id, int(parent.info.start_time)
    when = datetime.fromtimestamp(began / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    for run in _children(client, experiment, run_id):
        client.set_tag(run.info.run_id, NAME_TAG, f"{name} ({when})")
    query = f"tags.`{STUDY_TAG}` = '{study}'"
    while models := client.search_logged_models([experiment], filter_string=query, max_results=PAGE):
        for model in models:
            client.set_logged_model_tags(model.model_id, {STUDY_TAG: f"{study}#{began}"})
    known, model_name = registered(client, study, name)
    if known is not None:
        for version in client.search_model_versions(f"name = '{model_name}'"):
            if TRIAL_TAG in version.tags:
                client.delete_model_version_tag(model_name, version.version, TRIAL_TAG)
                client.set_model_version_tag(model_name, version.version, KEPT_TAG, "no")
    # Last: what is cut short before is done again.
    client.set_tag(run_id, NAME_TAG, f"{name} ({when})")
    client.set_tag(run_id, STUDY_TAG, f"{study}#{began}")


def _children(client: Any, experiment: str, parent: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
