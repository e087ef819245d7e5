"""`mtpareto ui`: which store and which page, and what is said of one that is not there.

`tests/long/test_ui_server.py` starts a server.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from mlflow_tracking.pages import Place, page
from mlflow_tracking.views import VIEW_TAG, study_filter
from orchestrator import cli
from orchestrator.commands.ui import free_port, shown_of
from orchestrator.finish.run_folder import report_again
from search_spaces.errors import StudyError
from tests.support.recorded_run import Made, write_data, write_run

RUNS = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"


@pytest.fixture(name="run")
def run_folder(tmp_path: Path) -> Path:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    return write_run(tmp_path / "run", data, [Made(1000, bits=None), Made(500)], tracking_uri=None)


def test_the_page_is_that_of_the_studys_runs() -> None:
    address = "http://127.0.0.1:5000"
    assert page(address, Place("7", {"viewStateShareKey": "mtpareto-1"})) == f"{RUNS}&viewStateShareKey=mtpareto-1"
    asked = {"searchFilter": study_filter("alma", "1")}
    assert page(address, Place("7", asked)) == f"{RUNS}&searchFilter=tags.study+%3D+%27alma%27"
    assert page(address, None) == f"{address}/#/experiments?workflowType=machine_learning"


def test_a_study_is_found_by_any_name() -> None:
    assert study_filter("o'brien", "1") == 'tags.study = "o\'brien"'
    assert study_filter("o'\"b", "1") == "tags.`mlflow.parentRunId` = '1'"


def test_a_run_names_its_own_store_and_its_place_there(run: Path, mlflow_store: Path) -> None:
    report_again(run, Console(quiet=True))
    shown = shown_of(run, {"MLFLOW_TRACKING_URI": "http://tracking:5000"})
    assert shown.uri == f"sqlite:///{mlflow_store}"
    assert shown.place is not None and shown.place.experiment != "0"
    client = MlflowClient(shown.uri)
    key = f"{VIEW_TAG}{shown.place.asked['viewStateShareKey']}"
    assert key in client.get_experiment(shown.place.experiment).tags
    # As an older version mirrored it.
    client.delete_experiment_tag(shown.place.experiment, key)
    assert shown_of(run, {}).place == (shown.place.experiment, {"searchFilter": "tags.study = 'run'"})


def test_without_a_run_mlflows_variable_names_the_store_else_it_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_of(None, {"MLFLOW_TRACKING_URI": "http://tracking:5000"}) == ("http://tracking:5000", None)
    with pytest.raises(StudyError, match=r"no MLflow store in runs/mlflow\.db; name a run"):
        shown_of(None, {})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(b"a store")
    assert shown_of(None, {}) == ("sqlite:///runs/mlflow.db", None)
    with pytest.raises(StudyError, match="which MLFLOW_TRACKING_URI names"):
        shown_of(None, {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db"})


def test_a_run_that_was_not_mirrored_says_how_to(
    run: Path, new_mlflow_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ui", str(run), "--no-open"]) == 2
    assert f"write it with: mtpareto mirror {run}" in capsys.readouterr().err
    (run.parent / "mlflow.db").write_bytes(new_mlflow_store.read_bytes())
    assert cli.main(["ui", str(run), "--no-open"]) == 2
    assert f"is not in the MLflow store sqlite:///{run.parent}/mlflow.db; write it with" in capsys.readouterr().err


def test_a_store_that_can_not_be_read_is_told_in_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "mlflow.db").write_bytes(b"no database" * 100)
    assert cli.main(["ui", str(run), "--no-open"]) == 2
    said = capsys.readouterr().err
    assert "can't be read: " in said and "Traceback" not in said


def test_a_port_in_use_says_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StudyError, match=f"port {port} of 127.0.0.1 can't be had .*--port N"):
            free_port(port)
    assert free_port(port) == port
    assert free_port(0) > 0
    with pytest.raises(StudyError, match="port 99999"):
        free_port(99999)
