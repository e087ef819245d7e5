"""MLflow's local store: made whole by one process while others wait, and found where MLflow's own variables say."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_tracking.mirror import EXPERIMENT, Mirror
from mlflow_tracking.store import hold_store, is_sqlite, sqlite_file
from orchestrator.study.spec import StudySpec, spec_from_mapping

PROCESSES = 6


def write_a_study(folder: Path, number: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    Mirror(f"sqlite:///{folder / 'mlflow.db'}", f"study-{number}", folder).study(f"study-{number}", {}, {})


@pytest.mark.usefixtures("new_mlflow_store")
def test_many_processes_that_find_no_store_make_one(tmp_path: Path) -> None:
    """This process made a store before, so that all of MLflow is loaded where it is forked."""
    from mlflow import MlflowClient

    fork = multiprocessing.get_context("fork")
    folder, start = tmp_path / "runs", fork.Barrier(PROCESSES)
    studies = [fork.Process(target=write_a_study, args=(folder, number, start)) for number in range(PROCESSES)]
    for study in studies:
        study.start()
    for study in studies:
        study.join(120)
    assert [study.exitcode for study in studies] == [0] * PROCESSES
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string=f"name = '{EXPERIMENT}'")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(f"study-{number}" for number in range(PROCESSES))
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        tables = {name for (name,) in store.execute("select name from sqlite_master where type = 'table'")}
    assert "runs" in tables and not any(name.startswith("_alembic_tmp") for name in tables)
    assert not list(folder.glob(".*.draft-*"))


def test_what_a_killed_process_left_of_a_store_is_no_store(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.draft-1").write_bytes(b"half a store")
    (tmp_path / "mlflow.db").touch()
    with hold_store(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        assert (tmp_path / "mlflow.db").stat().st_size > 0
    assert not list(tmp_path.glob(".*.draft-*"))


def test_a_server_and_a_store_in_memory_are_no_files() -> None:
    assert [is_sqlite(uri) for uri in ("http://tracking:5000", "sqlite://", "sqlite:///", "sqlite:///a.db")] == [
        False, False, False, True,
    ]  # fmt: skip
    assert sqlite_file("sqlite:////data/a.db?timeout=9") == Path("/data/a.db")
    with hold_store("http://tracking:5000"):
        pass


def test_mlflows_own_variables_say_what_the_study_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"MLFLOW_TRACKING_URI": "http://tracking:5000", "MLFLOW_EXPERIMENT_NAME": "news"}
    asked = StudySpec(out="runs/x", data="dev.jsonl")
    told = asked.told_by(said)
    assert (told.tracking_uri, told.experiment, told.mlflow_uri) == ("http://tracking:5000", "news", told.tracking_uri)
    assert spec_from_mapping(told.to_json()) == told
    flagged = StudySpec(out="runs/x", data="dev.jsonl", tracking_uri="sqlite:///own.db", experiment="own")
    assert flagged.told_by(said) == flagged
    assert asked.told_by({"MLFLOW_TRACKING_URI": ""}) == asked.told_by({}) == asked
    # A resume from another folder must find the same store.
    monkeypatch.chdir(tmp_path)
    assert flagged.absolute().tracking_uri == f"sqlite:///{tmp_path / 'own.db'}"
