"""A study's view in MLflow's UI: its trials as a table with the columns that matter, and the frontier's scatter chart.

The UI reads saved views from tags of the experiment and lists them under "Views". Their form is the UI's own, as of
3.17; another version takes what it knows of it.
"""

from __future__ import annotations

import json

VIEW_TAG = "mlflow.sharedViewState."
# The columns of metrics, from the left: those that say what became of a trial are seen without scrolling.
METRICS = ("on_frontier", "rank", "bytes_mb", "{quality}", "{quality}_kept_percent")
NAME_COLUMN = "attributes.`Run Name`"
BEFORE, AFTER = (NAME_COLUMN, "runDateAndNestInfo"), ("duration",)
# In pixels, where the UI's own width cuts most names.
NAME_WIDTH, KEPT_WIDTH = 300, 150
# Over the chart (its colours: `mlflow_tracking.standing`); a narrow page cuts more than these words.
SECTION = "The frontier is blue"
CHART_HEIGHT = 440
# The UI sorts views by it; nothing else asks for it.
CREATED = 0


def view_key(parent: str) -> str:
    """What the view of a study is known by in an address. parent: the id of the study's run."""
    return f"mtpareto-{parent[:12]}"


def view_tag(name: str, parent: str, quality: str) -> tuple[str, str]:
    """The tag of the experiment that holds a study's view, and its value. name: the study's. quality: as MLflow has
    it."""
    columns = [f"metrics.`{name.format(quality=quality)}`" for name in METRICS]
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
    # As wide as the page: a third of it, which is usual, leaves the points on top of each other.
    section = {
        "uuid": "mtpareto",
        "name": SECTION,
        "display": True,
        "isReordered": False,
        "columns": 1,
        "cardHeight": CHART_HEIGHT,
    }
    state = {
        "searchFilter": f"{study_filter(name, parent)} and tags.split = 'dev'",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "orderByKey": "attributes.`run_name`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [*BEFORE, *columns, *AFTER],
        "columnWidths": {NAME_COLUMN: NAME_WIDTH, columns[-1]: KEPT_WIDTH},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [scatter],
        "compareRunSections": [section],
        "isAccordionReordered": True,
    }
    envelope = {"name": name, "createdAt": CREATED, "updatedAt": CREATED, "state": json.dumps(state)}
    return f"{VIEW_TAG}{view_key(parent)}", json.dumps(envelope)


def study_filter(name: str, parent: str) -> str:
    """The search that leaves a study's runs; its trials alone where the name has both kinds of quotes, which MLflow
    can't read in a search."""
    quote = next((mark for mark in "'\"" if mark not in name), None)
    return f"tags.`mlflow.parentRunId` = '{parent}'" if quote is None else f"tags.study = {quote}{name}{quote}"
