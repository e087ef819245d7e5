"""`mtpareto report` of a run in whose folder a search goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from orchestrator import cli
from orchestrator.finish.run_folder import LOCK, read_data, reopen, report_again
from orchestrator.finish.wrap_up import TUNE_FOLDER, read_results
from orchestrator.ledger.records import read_ledger
from orchestrator.search.driver import resume_search
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import RTN
from search_spaces.outcome import Failure
from tests.support.examples import trial
from tests.support.fakes import files_no_larger_than
from tests.support.recorded_run import Made, write_data, write_run
from workers.runtime.file_locks import hold

pytestmark = pytest.mark.usefixtures("mlflow_store")


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


def test_held_out_trials_bear_their_candidates_numbers_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl"), "test": write_data(tmp_path / "test.jsonl", seed=1)}
    trials = [Made(10_000, bits=None), Made(6_000, bits=4, cut=0.1), Made(5_000, cut=0.2)]
    held_out = [Made(10_000, bits=None, split="test"), Made(5_000, cut=0.2, split="test")]
    folder = write_run(tmp_path / "run", data, [*trials, *held_out], test=str(tmp_path / "test.jsonl"), speed=False)
    ledger, spec = reopen(folder)
    assert [record.number for record in ledger.on("test")] == [0, 2]
    assert [record.number for record in ledger.trials] == [0, 1, 2, 3, 4]
    _, test = read_results(ledger, spec, read_data(spec))
    assert test is not None and [point.record.number for point in test.points] == [0, 2]

    assert cli.main(["mirror", str(folder)]) == 0
    assert f"mirrored  3 points of {folder} into sqlite:///" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mtpareto")
    runs = client.search_runs([experiment.experiment_id])
    numbers = {run.info.run_name.split(" ")[0] for run in runs if run.data.tags.get("split") == "test"}
    assert numbers == {"000", "002"}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    shown = parent.data.metrics
    assert shown["baseline.chrf"] == pytest.approx(100.0) and shown["smallest.ratio"] == 2.0
    assert shown["best_quality.chrf"] >= shown["smallest.chrf"] and "smallest.test_chrf" in shown


def test_fewer_trials_than_there_are_is_refused_and_none_left_is_said(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(10_000, bits=None), Made(5_000, cut=0.2)])
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(StudyError, match=r"--trials 1 is fewer than the trials the study has \(2\); .* in all"):
        resume_search(folder, Console(quiet=True), trials=1)
    assert (folder / "ledger.jsonl").read_bytes() == before and read_ledger(folder).complete


def test_a_page_that_cant_be_written_hides_neither_the_frontier_nor_the_other_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(10_000, bits=None), Made(5_000, cut=0.2)])

    def write_report(*content: object, **named: object) -> Path:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")

    monkeypatch.setattr("orchestrator.report.write_report.write_report", write_report)
    said = io.StringIO()
    found = report_again(folder, Console(file=said, width=200))
    text = said.getvalue()
    assert found.dev.points and "Traceback" not in text
    (line,) = [line for line in text.splitlines() if "not written" in line]
    assert line.startswith("report    not written: ModuleNotFoundError: No module named 'plotly'; install what ")
    assert line.endswith(f"; then try again with: mtpareto report {folder}")
    assert text.index("baseline") < text.index(line)
    assert (folder / "frontier.csv").is_file() and (folder / "frontier.png").is_file()
    assert not (folder / "report.html").exists()


def test_a_page_that_finds_no_room_leaves_no_half_of_it(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(10_000, bits=None), Made(5_000, cut=0.2)])
    said = io.StringIO()
    report_again(folder, Console(file=said))
    whole = (folder / "report.html").read_bytes()
    (folder / "frontier.png").unlink()
    with files_no_larger_than(20_000):
        report_again(folder, Console(file=said, width=200))
    assert said.getvalue().count("File too large; raise `ulimit -f`") == 2
    assert (folder / "report.html").read_bytes() == whole and not (folder / "frontier.png").exists()
    assert not list(folder.glob("*draft*")) + list(folder.glob(".draft*"))


def test_what_was_the_machines_fault_is_no_candidates_failure_in_a_report(tmp_path: Path) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    folder = write_run(tmp_path / "run", data, [Made(10_000, bits=None), Made(5_000, cut=0.2)])
    failure = Failure("error", "compress", "SafetensorError: I/O error: No space left on device (os error 28)")
    line = {**trial(failure, (RTN(bits=3),), number=2), "digest": "0" * 16, "hypotheses": None}
    with (folder / "ledger.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"kind": "trial", **line}) + "\n")
    said = io.StringIO()
    found = report_again(folder, Console(file=said, width=200))
    assert found.dev.failures == ()
    assert "not the candidates' fault but the machine's, and tried again by resume: trials 2" in said.getvalue()
    assert "os error 28" not in (folder / "report.html").read_text(encoding="utf-8")
