"""A study's view in MLflow's UI: its trials as a table with the columns that matter, and the frontier's scatter chart.

The UI reads saved views from tags of the experiment and lists them under "Views". Their form is the UI's own, as of
3.17; another version takes what it knows of it.
"""

from __future__ import annotations

import json

VIEW_TAG = "mlflow.sharedViewState."
# What a view is of, beside the quality.
COLUMNS = ("bytes_mb", "{quality}", "{quality}_kept_percent", "on_frontier", "rank", "hypervolume_share")
# The UI sorts views by it; nothing else asks for it.
CREATED = 0


def view_key(parent: str) -> str:
    """What the view of a study is known by in an address. parent: the id of the study's run."""
    return f"mtpareto-{parent[:12]}"


def view_tag(name: str, parent: str, quality: str) -> tuple[str, str]:
    """The tag of the experiment that holds a study's view, and its value. name: the study's. quality: as MLflow has
    it."""
    scatter = {
        "uuid": "mtpareto-frontier",
        "type": "SCATTER",
        "metricSectionId": "mtpareto",
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        "xaxis": {"key": "bytes_mb", "type": "METRIC"},
        "yaxis": {"key": quality, "type": "METRIC"},
    }
    state = {
        "searchFilter": f"{study_filter(name, parent)} and tags.split = 'dev'",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "orderByKey": "attributes.`run_name`",
        "orderByAsc": True,
        "selectedColumns": [f"metrics.`{column.format(quality=quality)}`" for column in COLUMNS],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [scatter],
        "compareRunSections": [{"uuid": "mtpareto", "name": "Frontier", "display": True, "isReordered": False}],
        "isAccordionReordered": True,
    }
    envelope = {"name": name, "createdAt": CREATED, "updatedAt": CREATED, "state": json.dumps(state)}
    return f"{VIEW_TAG}{view_key(parent)}", json.dumps(envelope)


def study_filter(name: str, parent: str) -> str:
    """The search that leaves a study's runs; its trials alone where the name has both kinds of quotes, which MLflow
    can't read in a search."""
    quote = next((mark for mark in "'\"" if mark not in name), None)
    return f"tags.`mlflow.parentRunId` = '{parent}'" if quote is None else f"tags.study = {quote}{name}{quote}"
