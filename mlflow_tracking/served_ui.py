"""MLflow's server for `mtpareto ui`: its own app, with a first page that makes a browser's first choices.

The UI has two sets of pages. A browser remembers, for an address, which of the two was chosen at the top left; before
that, the UI takes the set for agents, whatever an experiment's tags say. `?workflowType=` chooses for one page, and the
UI's own links drop it. So the first page chooses "Model training" where nobody has chosen.

An app of MLflow's entry point `mlflow.app`: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# As `mlflow server --app-name` calls it: the entry point's name in pyproject.toml.
APP_NAME = "mtpareto"
# What MLflow's JavaScript remembers: keys with their versions, values in JSON.
REMEMBERED = {
    "mlflow.workflowType_v1": '"machine_learning"',
    # Its assistant has been shown: else that opens by itself, over a quarter of the page.
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}


def create_app() -> Any:
    """MLflow's app for its server (ASGI), with the first page below."""
    from mlflow.server import app as pages
    from mlflow.server.fastapi_app import app

    pages.view_functions["serve"] = lambda: first_page(Path(pages.static_folder))
    return app


def first_page(build: Path) -> Any:
    """MLflow's index.html, in whose head the choices are made before any other script runs, as an answer of Flask's.
    build: the folder of MLflow's UI."""
    from flask import Response

    choices = (
        f"localStorage.getItem('{key}') ?? localStorage.setItem('{key}', '{value}')"
        for key, value in REMEMBERED.items()
    )
    html = (build / "index.html").read_text(encoding="utf-8")
    answer = Response(html.replace("<head>", f"<head><script>{'; '.join(choices)}</script>", 1), mimetype="text/html")
    # A browser that has seen MLflow at this address holds a page without the script.
    answer.headers["Cache-Control"] = "no-store"
    return answer
