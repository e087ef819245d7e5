"""What is said of an MLflow that can't be written to, and what MLflow itself says then."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mlflow import MlflowClient
from rich.console import Console

from mlflow_tracking.mirror import Mirror
from mlflow_tracking.trial_fields import MirroredTrial
from mlflow_tracking.views import VIEW_TAG, view_key
from orchestrator.finish.mirroring import kept_percent, mirror_ledger, mirrored_trial, mlflow_troubles, spell_trouble
from orchestrator.finish.run_folder import report_again
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger, record_from_json
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.outcome import Failure, Outcome, Probe, Race, Speed
from tests.support.examples import measurement, trial
from tests.support.fakes import files_no_larger_than
from tests.support.recorded_run import Made, write_data, write_run

FULL = """(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block if this flush \
is occurring prematurely)
(sqlite3.OperationalError) database or disk is full
[SQL: INSERT INTO metrics ("key", value) VALUES (?, ?)]
[parameters: [('chrf', 66.65262105722495)]]
(Background on this error at: https://sqlalche.me/e/21/e3q8)"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FULL, "database or disk is full"),
        ("API request to http://127.0.0.1:9 failed\nsee above", "API request to http://127.0.0.1:9 failed"),
    ],
)
def test_mlflows_errors_are_said_in_a_line_without_their_statements(text: str, said: str) -> None:
    assert spell_trouble(OSError(text)) == said


def test_a_store_that_refuses_is_told_by_who_catches_it_alone(tmp_path: Path) -> None:
    said: list[str] = []
    mirror = Mirror(f"sqlite:///{tmp_path / 'mlflow.db'}", "study", tmp_path / "files")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mlflow").addHandler(handler)
    try:
        with files_no_larger_than(10), pytest.raises(mlflow_troubles()) as caught:
            mirror.study("study", {"trials": 3}, {})
    finally:
        logging.getLogger("mlflow").removeHandler(handler)
    assert said == []
    assert spell_trouble(caught.value) in ("disk I/O error", "database or disk is full")


class Told(Mirror):
    """A mirror that only notes which trials it is told of."""

    def __init__(self) -> None:
        self.trials: list[tuple[int, str]] = []

    def study(self, *_: object) -> str:
        return "study"

    def about(self, *_: object) -> None:
        pass

    def progress(self, *_: object) -> None:
        pass

    def view(self, *_: object) -> None:
        pass

    def trial(self, trial: MirroredTrial) -> str:
        self.trials.append((trial.number, trial.split))
        return "trial"


def test_a_speed_and_a_probe_have_no_run_of_their_own(tmp_path: Path) -> None:
    run, gptq, rtn = tmp_path / "run", (GPTQ(bits=4),), (RTN(bits=4),)
    create_ledger(run, {"spec": {"seed": 0}, "base": {"name": "example/model"}, "conditions": {}})
    writer = LedgerWriter(str(run))
    scored = [{"id": "1", "text": "Ein Hund."}, {"id": "2", "text": "Zwei."}]
    writer.append(trial(measurement(), number=0), scored)
    writer.append(trial(Probe({"en-de": 0.5}, 900, {"compress": 4.0}), gptq, 1, "profile"), [])
    writer.append(trial(Failure("unsupported", "compress", "no"), rtn, 2, "profile"), [])
    writer.append(trial(measurement(), gptq, 3), scored)
    writer.append(trial(measurement(), gptq, 4, "test"), scored)
    writer.append(trial(Speed({1: 81.0}), gptq, 5, "speed"), [])
    mirror, done = Told(), set[str]()
    mirror_ledger(mirror, run, read_ledger(run), done)
    # What is scored again bears the number of its candidate on dev.
    assert mirror.trials == [(0, "dev"), (3, "dev"), (3, "test")]
    assert len(done) == 3


def test_what_was_expected_stands_beside_what_was_found() -> None:
    line = {**trial(measurement(50.0), (RTN(bits=4),)), "kind": "trial", "digest": "0", "hypotheses": None}
    expected = {"kept": 0.98, "low": 0.95, "high": 1.0, "gain": 0.1, "seconds": 9.0}
    assert mirrored_trial(record_from_json(line)).more == {}  # type: ignore[arg-type]
    chosen = mirrored_trial(record_from_json({**line, "why": expected}), {"ratio": 2.0})  # type: ignore[arg-type,typeddict-item]
    assert chosen.more == {"ratio": 2.0, **{f"expected_{name}": value for name, value in expected.items()}}


def test_a_quality_is_kept_in_percent_of_the_baselines_on_each_split() -> None:
    def mirrored(outcome: Outcome, split: str = "dev") -> MirroredTrial:
        line = {**trial(outcome, (RTN(bits=4),), split=split), "kind": "trial", "digest": "0", "hypotheses": None}
        return mirrored_trial(record_from_json(line))  # type: ignore[arg-type]

    baseline = measurement(50.0)
    assert kept_percent(mirrored(measurement(40.0)), baseline) == {"chrf_kept_percent": 80.0}
    assert kept_percent(mirrored(measurement(60.0), "test"), baseline) == {"test_chrf_kept_percent": 120.0}
    raced = replace(measurement(40.0), race=Race("dominated", 3, 1, -9.8, -4.1, 52.0))
    assert kept_percent(mirrored(raced), baseline) == {}
    assert kept_percent(mirrored(measurement(40.0)), None) == {}
    assert kept_percent(mirrored(measurement(40.0)), measurement(0.0)) == {}
    assert kept_percent(mirrored(Failure("unsupported", "compress", "no")), baseline) == {}


class Mirrored(NamedTuple):
    """A run's folder in MLflow."""

    client: Any
    experiment: str
    parent: Any
    runs: dict[str, Any]


def read_mirrored(store: Path) -> Mirrored:
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("mtpareto").experiment_id
    found = {run.info.run_name: run for run in client.search_runs([experiment])}
    (parent,) = [run for run in found.values() if "mlflow.parentRunId" not in run.data.tags]
    return Mirrored(client, experiment, parent, found)


@pytest.fixture(name="folder")
def mirrored_folder(tmp_path: Path, mlflow_store: Path) -> Path:
    """A run with held-out data, and a model that was kept, in MLflow."""
    data = {"dev": write_data(tmp_path / "dev.jsonl"), "test": write_data(tmp_path / "test.jsonl", seed=1)}
    trials = [
        Made(10_000, bits=None), Made(6_000, bits=4), Made(5_000, bits=8, cut=0.2), Made(7_000, bits=3, cut=0.3),
    ]  # fmt: skip
    held_out = [Made(10_000, bits=None, split="test"), Made(6_000, bits=4, split="test")]
    run = write_run(tmp_path / "run", data, [*trials, *held_out], test=str(tmp_path / "test.jsonl"), speed=False)
    (run / "artefacts" / "trial-1-rtn-4-bit-g64").mkdir(parents=True)
    report_again(run, Console(quiet=True))
    return run


def test_a_trial_can_be_filtered_by_its_place_and_its_data(folder: Path, mlflow_store: Path) -> None:
    found = read_mirrored(mlflow_store)
    smaller, larger = found.runs["001 rtn 4-bit g64"].data.metrics, found.runs["003 rtn 3-bit g64"].data.metrics
    assert (smaller["on_frontier"], smaller["rank"], smaller["bytes_mb"]) == (1.0, 2.0, 0.006)
    assert found.runs["002 rtn 8-bit g64"].data.metrics["rank"] == 1.0
    assert smaller["chrf_kept_percent"] == 100.0
    assert 0 < smaller["hypervolume_share"] < 1
    assert (larger["on_frontier"], larger["hypervolume_share"]) == (0.0, 0.0) and "rank" not in larger
    query = "metrics.on_frontier = 1 and dataset.name = 'dev.jsonl'"
    names = {run.info.run_name for run in found.client.search_runs([found.experiment], query)}
    assert names == {"001 rtn 4-bit g64", "002 rtn 8-bit g64"}
    held_out = found.runs["001 rtn 4-bit g64 [test]"]
    assert held_out.data.metrics["test_chrf_kept_percent"] == 100.0 and "on_frontier" not in held_out.data.metrics


def test_a_run_shows_where_its_trial_stands_and_what_somebody_wrote_there_stays(
    folder: Path, mlflow_store: Path
) -> None:
    found = read_mirrored(mlflow_store)
    tags = {name[:3]: run.data.tags for name, run in found.runs.items() if run.data.tags.get("split") == "dev"}
    said = {number: (one["mlflow.runColor"], one["mlflow.note.content"]) for number, one in tags.items()}
    tied = "Standing: not told apart from trial 1: rtn(bits=4, group_size=64, symmetric=True), which is no larger."
    assert said == {
        "000": ("#56B4E9", tied),
        "001": ("#0072B2", "Standing: on the frontier, number 2 of 2 by size."),
        "002": ("#0072B2", "Standing: on the frontier, number 1 of 2 by size."),
        "003": ("#56B4E9", tied),
    }
    bounds = found.runs["003 rtn 3-bit g64"].data.metrics
    assert bounds["chrf_difference.low"] <= bounds["chrf"] - 100 <= bounds["chrf_difference.high"] < 0
    run_id = found.runs["001 rtn 4-bit g64"].info.run_id
    found.client.set_tag(run_id, "mlflow.note.content", "mine")
    found.client.set_tag(run_id, "mlflow.runColor", "#000000")
    report_again(folder, Console(quiet=True))
    kept = found.client.get_run(run_id).data.tags
    assert (kept["mlflow.note.content"], kept["mlflow.runColor"]) == ("mine", "#000000")


def test_a_data_set_is_an_input_by_name_and_digest_and_no_sentence_of_it_is_written(
    folder: Path, mlflow_store: Path
) -> None:
    digests = read_ledger(folder).header["data"]
    found = read_mirrored(mlflow_store)
    for name, split in (("001 rtn 4-bit g64", "dev"), ("001 rtn 4-bit g64 [test]", "test")):
        (one,) = found.runs[name].inputs.dataset_inputs
        assert (one.dataset.name, one.dataset.digest) == (f"{split}.jsonl", digests[split][:16])
        assert [(tag.key, tag.value) for tag in one.tags] == [("mlflow.data.context", split)]
        assert json.loads(one.dataset.source) == {"uri": str(folder.parent / f"{split}.jsonl")}
        assert json.loads(one.dataset.profile) == {"segments": 24, "language_pairs": 2}
    (model,) = found.client.search_logged_models([found.experiment])
    assert {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics} == {
        ("dev.jsonl", digests["dev"][:16])
    }
    # The data's own words.
    assert b"of a story." not in mlflow_store.read_bytes()


def test_the_studys_run_has_its_pages_its_settings_and_a_history_once(folder: Path, mlflow_store: Path) -> None:
    found = read_mirrored(mlflow_store)
    run_id = found.parent.info.run_id
    assert {item.path for item in found.client.list_artifacts(run_id)} == {
        "report.html", "frontier.csv", "frontier.png", "study.yaml",
    }  # fmt: skip
    settings = Path(found.client.download_artifacts(run_id, "study.yaml", str(folder)))
    assert yaml.safe_load(settings.read_text(encoding="utf-8")) == read_ledger(folder).header["spec"]

    parent = found.parent
    # As the ledger has it, whenever it is mirrored.
    assert parent.info.end_time == 1_767_225_609_000
    assert {one.dataset.name for one in parent.inputs.dataset_inputs} == {"dev.jsonl", "test.jsonl"}
    assert parent.data.tags["mlflow.note.content"].startswith("These data can't tell how much a candidate loses")

    def steps(name: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in found.client.get_metric_history(run_id, name)]

    ratios = steps("ratio_at_99")
    assert ratios == [(1, 1.0), (2, 10 / 6), (3, 10 / 6), (4, 10 / 6)]
    assert [step for step, _ in steps("hypervolume")] == [1, 2, 3, 4]
    report_again(folder, Console(quiet=True))
    assert steps("ratio_at_99") == ratios


def test_a_study_has_a_view_of_its_trials_and_its_frontier(folder: Path, mlflow_store: Path) -> None:
    found = read_mirrored(mlflow_store)
    tags = found.client.get_experiment(found.experiment).tags
    view = json.loads(tags[f"{VIEW_TAG}{view_key(found.parent.info.run_id)}"])
    state = json.loads(view["state"])
    assert view["name"] == "run"
    runs = found.client.search_runs([found.experiment], state["searchFilter"])
    assert len(runs) == 4 and {run.data.tags["split"] for run in runs} == {"dev"}
    (chart,) = state["compareRunCharts"]
    assert (chart["xaxis"]["key"], chart["yaxis"]["key"]) == ("bytes_mb", "chrf")
    shown = {name for run in runs for name in run.data.metrics}
    assert {column.split("`")[1] for column in state["selectedColumns"]} <= shown
    assert set(state["columnWidths"]) | set(state["selectedColumns"]) <= set(state["columnOrder"])


def test_a_kept_model_is_registered_with_its_card_and_its_aliases(folder: Path, mlflow_store: Path) -> None:
    client = read_mirrored(mlflow_store).client
    (version,) = client.search_model_versions("name = 'run'")
    assert sorted(client.get_model_version(version.name, version.version).aliases) == [
        "best-quality", "knee", "smallest", "smallest-at-99",
    ]  # fmt: skip
    kept = folder / "artefacts" / "trial-1-rtn-4-bit-g64"
    assert version.source == kept.as_uri()
    assert version.description.startswith("Trial 1, 6.00 kB: rtn 4-bit g64\n")
    assert "Of example/model (0123abc), 1.67× smaller, all files counted." in version.description
    assert "| dev: dev | 100.00 | 100.00 | 0.00 to 0.00 |" in version.description
    assert "It is on the frontier." in version.description and str(kept) in version.description


def test_a_history_grows_while_a_search_runs_and_a_resumed_one_goes_on(tmp_path: Path, mlflow_store: Path) -> None:
    run = tmp_path / "run"
    create_ledger(run, {"spec": {}, "data": {}, "base": {"name": "example/model"}, "conditions": {"ray": "2.60.0"}})
    writer = LedgerWriter(str(run))
    uri = f"sqlite:///{mlflow_store}"
    mirror, done = Mirror(uri, str(run), tmp_path / "files"), set[str]()
    on_gpu = {"device": "NVIDIA H200", "torch": "2.13.0"}
    for number, (size, steps) in enumerate([(1000, ()), (500, (RTN(bits=4),)), (250, (GPTQ(bits=4),))]):
        outcome = replace(measurement(50.0, size), conditions=on_gpu)
        writer.append(trial(outcome, steps, number), [{"text": "x"}] * 2)
        if number == 2:
            # A resumed search has a mirror of its own.
            mirror, done = Mirror(uri, str(run), tmp_path / "files"), set()
        mirror_ledger(mirror, run, read_ledger(run), done)
    found = read_mirrored(mlflow_store)
    history = found.client.get_metric_history(found.parent.info.run_id, "gpu_hours")
    assert [(one.step, round(one.value * 3600)) for one in history] == [(1, 9), (2, 18), (3, 27)]
    ratios = found.client.get_metric_history(found.parent.info.run_id, "ratio_at_99")
    assert [(one.step, one.value) for one in ratios] == [(1, 1.0), (2, 2.0), (3, 4.0)]
    tags = found.parent.data.tags
    assert (tags["condition.device"], tags["condition.torch"], tags["condition.ray"]) == (
        "NVIDIA H200", "2.13.0", "2.60.0",
    )  # fmt: skip
