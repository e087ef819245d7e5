"""MLflow's first page with the choices of `mtpareto ui`, from the UI that is installed.

`tests/long/test_ui_browser.py` looks at it in a browser.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import mlflow.server
import pytest

from mlflow_tracking.served_ui import APP_NAME, REMEMBERED, create_app, first_page

BUILD = Path(mlflow.server.app.static_folder)


def test_the_choices_come_before_mlflows_scripts_and_no_copy_is_kept() -> None:
    page = first_page(BUILD)
    html = page.get_data(as_text=True)
    assert html.index("<script>") < html.index("static-files/static/js/main.")
    assert html.replace(html[html.index("<script>") : html.index("</script>") + len("</script>")], "", 1) == (
        BUILD / "index.html"
    ).read_text(encoding="utf-8")
    assert all(f"setItem('{key}', '{value}')" in html for key, value in REMEMBERED.items())
    assert (page.mimetype, page.headers["Cache-Control"]) == ("text/html", "no-store")


def test_the_installed_ui_remembers_by_these_keys() -> None:
    (script,) = (BUILD / "static" / "js").glob("main.*.js")
    code = script.read_text(encoding="utf-8")
    for key in REMEMBERED:
        name, _, version = key.rpartition("_v")
        assert f'key:"{name}",version:{version}' in code
    assert 'MACHINE_LEARNING="machine_learning"' in code


def test_mlflows_server_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mlflow.server.app.view_functions, "serve", mlflow.server.app.view_functions["serve"])
    create_app()
    with mlflow.server.app.test_request_context("/"):
        assert "mlflow.workflowType_v1" in mlflow.server.app.view_functions["serve"]().get_data(as_text=True)


def test_the_app_is_an_entry_point_of_the_installation() -> None:
    (app,) = entry_points(group="mlflow.app", name=APP_NAME)
    assert app.load() is create_app
