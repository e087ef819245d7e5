"""`mtpareto report` of a run in whose folder a search goes on."""

from __future__ import annotations

import io
from pathlib import Path

from mlflow import MlflowClient
from rich.console import Console

from orchestrator.run_folder import LOCK, report_again
from orchestrator.wrapup import TUNE_FOLDER
from tests.recorded_run import Made, write_data, write_run
from workers.locks import hold


def test_what_a_running_search_needs_stays_and_its_run_in_mlflow_goes_on(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(10_000, bits=None), Made(5_000, cut=0.2)])
    needed = [folder / "store", folder / TUNE_FOLDER]
    for path in needed:
        path.mkdir()
    said = io.StringIO()
    with hold(folder / LOCK, 0.0):
        found = report_again(folder, Console(file=said))
    assert all(path.is_dir() for path in needed)
    assert "the search is still running" in said.getvalue() and not found.interrupted
    assert (folder / "report.html").is_file()
    assert _parent_status(tmp_path) == "RUNNING"

    report_again(folder, Console(file=said))
    assert not any(path.exists() for path in needed)
    assert _parent_status(tmp_path) == "FINISHED"


def _parent_status(folder: Path) -> str:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mtpareto")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return str(parent.info.status)
