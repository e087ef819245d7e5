"""Stored hypotheses scored again: to the ledger's very numbers, in new metrics, and never in place of the ledger."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sacrebleu.metrics.ter import TER

from orchestrator import cli
from orchestrator.commands.rescore import rescore
from orchestrator.ledger.records import read_hypotheses, read_ledger
from orchestrator.ledger.rescored import RESCORED, read_rescored, trial_key, with_rescored, write_rescored
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import collect
from orchestrator.results.tables.csv_table import frontier_csv
from search_spaces.errors import StudyError
from search_spaces.outcome import Race, Score
from tests.support.fakes import WatchedSync
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet

TRIALS = [
    Made(100, 0.0, None),
    Made(60, 0.2, 8, {3: 0.5, 4: 0.9}),
    Made(40, 0.5, 4, race=Race("dominated", 1, 10, -20.0, -4.0, 50.0)),
]


@pytest.fixture(name="data")
def dev_data(tmp_path: Path) -> DataSet:
    return write_data(tmp_path / "dev.jsonl")


@pytest.fixture(name="folder")
def run_folder(tmp_path: Path, data: DataSet, mlflow_store: Path) -> Path:
    return write_run(tmp_path / "run", {"dev": data}, TRIALS, tracking_uri=f"sqlite:///{mlflow_store}")


def quiet(line: str) -> None:
    """Takes what a command says."""


def test_the_ledgers_metrics_come_out_as_the_very_numbers_of_the_ledger(folder: Path) -> None:
    rescore(folder, ["chrf", "bleu"], quiet)
    scored = read_rescored(folder)
    for record in read_ledger(folder).trials:
        assert record.measurement is not None
        for metric in ("chrf", "bleu"):
            assert scored[metric][trial_key(record)] == record.measurement.scores[metric], "the raced trial's too"


def test_a_new_metric_is_shown_beside_the_ledgers_and_others_rescored_stay(folder: Path, data: DataSet) -> None:
    said: list[str] = []
    rescore(folder, ["ter"], said.append)
    rescore(folder, ["chrf++"], said.append)
    assert len(said) == 6
    assert said[0].startswith("[1/3] baseline on dev: ter 0.00")
    assert set(json.loads((folder / RESCORED).read_text(encoding="utf-8"))) == {"ter", "chrf++"}
    records = with_rescored(read_ledger(folder).on("dev"), read_rescored(folder))
    results = collect(records, Intervals(folder, data, 0))
    assert results.metrics == ["chrf", "bleu", "chrf++", "ter"]
    header, *lines = frontier_csv(results).splitlines()
    assert {"ter", "chrf++"} < set(header.split(","))
    texts = read_hypotheses(folder, records[1])
    german = [line for line, segment in enumerate(data.segments) if segment.langs == "en-de"]
    expected = TER().corpus_score(
        [texts[line] for line in german], [[data.segments[line].references[0] for line in german]]
    )
    measurement = records[1].measurement
    assert measurement is not None
    assert measurement.scores["ter"]["en-de"].value == expected.score
    assert len(lines) == 3


def test_what_the_ledger_says_is_never_replaced(folder: Path) -> None:
    record = read_ledger(folder).on("dev")[1]
    other = {"chrf": {trial_key(record): {"en-de": Score(1.0, "s"), "en-cs": Score(1.0, "s")}}}
    assert with_rescored([record], other) == [record]
    added = with_rescored([record], {"ter": other["chrf"]})[0].measurement
    assert added is not None
    assert list(added.scores) == ["chrf", "bleu", "ter"], "the quality stays the first"


def test_the_file_is_on_disk_before_it_takes_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = WatchedSync()
    monkeypatch.setattr(os, "fsync", synced)
    path = write_rescored(folder, {"ter": {"digest.dev": {"en-de": Score(30.0, "s")}}})
    (draft, held), (where, _) = synced.contents
    assert (draft.name, where) == (".draft-rescored.json", folder)
    assert held == path.read_bytes()
    assert read_rescored(folder)["ter"]["digest.dev"]["en-de"] == Score(30.0, "s")


def test_a_damaged_file_is_named_with_the_way_out(folder: Path) -> None:
    for content in ("{", '{"ter": 3}', '{"ter": {"x.dev": {"en-de": {"worth": 3}}}}'):
        (folder / RESCORED).write_text(content, encoding="utf-8")
        with pytest.raises(StudyError, match=r"rescored.json is damaged .*mtpareto rescore"):
            read_rescored(folder)


def test_changed_data_and_unknown_metrics_are_refused_and_nothing_is_written(folder: Path) -> None:
    with pytest.raises(StudyError, match="there is no metric 'meteor'"):
        rescore(folder, ["chrf", "meteor"], quiet)
    write_data(folder.parent / "dev.jsonl", seed=3)
    with pytest.raises(StudyError, match="has changed since it began"):
        rescore(folder, ["ter"], quiet)
    assert not (folder / RESCORED).exists()


def test_hypotheses_of_other_segments_are_refused(folder: Path, data: DataSet) -> None:
    record = read_ledger(folder).on("dev")[0]
    path = folder / str(record.hypotheses)
    path.write_text(path.read_text(encoding="utf-8").replace('"en-cs:1"', '"en-cs:900"'), encoding="utf-8")
    with pytest.raises(StudyError, match=r"a hypothesis of 'en-cs:900', which dev.jsonl does not hold"):
        rescore(folder, ["ter"], quiet)


def test_the_command_scores_again_and_writes_the_pages_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rescore", str(folder), "--metrics", "ter, chrf++"]) == 0
    shown = capsys.readouterr()
    assert f"rescored  {folder / RESCORED}" in shown.out
    assert "ter" in (folder / "frontier.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert "chrF++" in (folder / "report.html").read_text(encoding="utf-8")


def test_comet_that_is_not_there_is_refused_before_anything_is_scored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with pytest.raises(StudyError, match="none/here"):
        rescore(folder, ["ter", "comet"], said.append, comet_model=str(tmp_path / "none" / "here"))
    assert said == []
