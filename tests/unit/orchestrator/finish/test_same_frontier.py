"""The frontier is one and the same wherever it is shown, and it is the one that the ledger's lines give."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

import mtpareto
from orchestrator import cli
from orchestrator.finish.kept_models import kept_model
from orchestrator.finish.run_folder import report_again
from orchestrator.ledger.records import LedgerWriter
from orchestrator.results.picking import WORDS
from orchestrator.statistics.frontier import Objectives
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ, QuantizeEmbeddings
from search_spaces.outcome import Failure, Race
from tests.support.examples import frontier_by_definition, trial
from tests.support.recorded_run import Made, write_data, write_run

FLOOR = 0.3
LAYERS, EMBEDDINGS, GPTQ_3, GPTQ_2 = (
    (RemoveLayers(count=1),), (QuantizeEmbeddings(bits=8),), (GPTQ(bits=3),), (GPTQ(bits=2),),
)  # fmt: skip
SPOILT = {"empty": 0.5}
# Two points either have the same translations, or one is better throughout: what is shown is what is measured.
DEV = [
    Made(12_000, 0.0, None),
    Made(6_000, 0.0, 8),
    Made(4_000, 0.06, 4),
    Made(3_000, 0.03, 3),
    Made(2_000, 0.4, chain=EMBEDDINGS),
    Made(9_000, 0.1, chain=LAYERS),
    Made(3_500, 0.3, 2, reference=True),
    Made(2_600, 0.02, chain=GPTQ_3, sanity=SPOILT),
    Made(1_500, 0.45, chain=GPTQ_2),
    Made(1_200, 0.9, chain=(*LAYERS, *EMBEDDINGS)),
    Made(2_500, 0.3, chain=(*GPTQ_3, *EMBEDDINGS), race=Race("dominated", 8, 4, -9.8, -4.1, 52.0)),
]
# Trial -> what held-out data cut: they turn trials 2 and 3 round. Trial 8 fails on them, and others were not scored.
JUDGED = {0: 0.0, 1: 0.0, 2: 0.02, 3: 0.2, 4: 0.5}
WHOLE = dict.fromkeys(range(1, 96, 2), 0.0)
# They fail a sanity check, fail on held-out data, and lie below the floor.
BARRED = {7, 8, 9}


@dataclass(frozen=True)
class Told:
    """A trial as its lines of the ledger have it, worked out here from their JSON alone."""

    number: int
    digest: str
    bytes: int
    compressed: bool
    dev: float
    """chrF, the mean over language pairs."""
    test: float | None = None
    frontier: bool = False


@pytest.fixture(name="run", scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, new_mlflow_store: Path) -> Path:
    """A finished run whose models were kept, with every kind of trial."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "mlflow.db").write_bytes(new_mlflow_store.read_bytes())
    data = {name: write_data(folder / f"{name}.jsonl", 96, seed) for seed, name in enumerate(("dev", "test"))}
    judged = [replace(DEV[at], cut=cut, cuts=WHOLE if at == 2 else {}, split="test") for at, cut in JUDGED.items()]
    asked: dict[str, Any] = {"test": str(folder / "test.jsonl"), "floor": FLOOR, "speed": False}
    run = write_run(folder / "run", data, [*DEV, *judged], model="example/model", **asked)
    writer = LedgerWriter(str(run))
    writer.append(trial(Failure("error", "score", "a fault"), GPTQ_2, 30, "test"), [])
    writer.append(trial(Failure("out_of_memory", "load", "too much"), (*LAYERS, *GPTQ_2), 31), [])
    writer.end(True)
    for number in (1, 2, 3, 4):
        (run / "artefacts" / f"trial-{number}-made").mkdir(parents=True)
    return run


@pytest.fixture(name="terminal", scope="module")
def reported(run: Path) -> str:
    """What `mtpareto report` prints; MLflow and the pages are written with it."""
    said = io.StringIO()
    report_again(run, Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(name="truth", scope="module")
def worked_out(run: Path) -> dict[int, Told]:
    """Trial number -> the trial, of those that were measured in full on dev."""
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text("utf-8").splitlines()]
    measured = [line for line in lines if line.get("kind") == "trial" and "scores" in line["outcome"]]

    def mean(line: Mapping[str, Any]) -> float:
        values = [score["value"] for score in line["outcome"]["scores"]["chrf"].values()]
        return sum(values) / len(values)

    there = {line["digest"]: mean(line) for line in measured if line["split"] == "test"}
    trials = [
        Told(
            line["number"], line["digest"], line["outcome"]["footprint"]["bytes"], bool(line["candidate"]["steps"]),
            mean(line), there.get(line["digest"]),
        )
        for line in measured if line["split"] == "dev" and not line["outcome"].get("race")
    ]  # fmt: skip
    base = trials[0]
    assert not base.compressed and base.test is not None
    assert [one.number for one in trials if one.dev < FLOOR * base.dev] == [9]
    allowed = [one for one in trials if one.number not in BARRED]
    # Where held-out data have scored a trial, its place is by these; else it is by dev.
    front = _front(allowed, lambda one: one.dev, lambda one: one.test is None)
    front |= _front([one for one in allowed if one.test is not None], lambda one: one.test or 0.0, lambda one: True)
    return {one.number: replace(one, frontier=one.number in front) for one in trials}


def _front(trials: Sequence[Told], quality: Callable[[Told], float], counts: Callable[[Told], bool]) -> set[int]:
    kept = frontier_by_definition([Objectives(quality(one), one.bytes) for one in trials])
    return {one.number for one, keep in zip(trials, kept, strict=True) if keep and counts(one)}


def _picked(truth: Mapping[int, Told]) -> dict[str, int]:
    """What each pick means, by its definition in docs/take-it-away.md."""
    base, *_ = truth.values()
    choices = [one for one in truth.values() if one.compressed and one.test is not None and one.number not in BARRED]

    def quality(one: Told) -> float:
        assert one.test is not None
        return one.test

    def smallest_at(share: float) -> int:
        return min((one for one in choices if quality(one) >= share * quality(base)), key=lambda one: one.bytes).number

    # By rising bytes, with the uncompressed model where nothing smaller is as good.
    front = sorted((one for one in (base, *choices) if one.frontier), key=lambda one: one.bytes)
    low, high = front[0], front[-1]

    def above_line(one: Told) -> float:
        along = math.log(one.bytes / low.bytes) / math.log(high.bytes / low.bytes)
        return quality(one) - (quality(low) + along * (quality(high) - quality(low)))

    best = min(choices, key=lambda one: (-quality(one), one.bytes))
    within = min((one for one in choices if one.bytes <= 3500), key=lambda one: (-quality(one), one.bytes))
    return {
        "best-quality": best.number,
        "knee": max(front, key=above_line).number,
        "smallest-at-99": smallest_at(0.99),
        "smallest": min(choices, key=lambda one: one.bytes).number,
        "97%": smallest_at(0.97),
        "70%": smallest_at(0.70),
        "<=3500B": within.number,
        "3": 3,
    }


def test_the_run_has_what_could_be_told_in_two_ways(truth: dict[int, Told]) -> None:
    assert {number for number, one in truth.items() if one.frontier} == {1, 2, 3, 4}
    # Dev alone would say otherwise.
    allowed = [one for one in truth.values() if one.number not in {7, 9}]
    assert _front(allowed, lambda one: one.dev, lambda one: True) == {1, 3, 4, 8}
    picks = _picked(truth)
    assert picks == {
        "best-quality": 1, "knee": 2, "smallest-at-99": 2, "smallest": 4, "97%": 2, "70%": 3, "<=3500B": 3, "3": 3,
    }  # fmt: skip


def test_the_terminals_table_is_the_ledgers(terminal: str, truth: dict[int, Told]) -> None:
    rows = re.findall(
        r"^ +(\d+) +(.+?) +([\d.]+ kB) +([\d.]+)x +(= )?([\d.]+)(?: [+-][\d.]+ [+-][\d.]+)? .*? ([\d.]+)? *$",
        terminal, re.MULTILINE,
    )  # fmt: skip
    shown = {int(row[0]): row for row in rows}
    # The baseline is not told apart from trial 1, and trial 6 is a mark; neither is a point of the frontier.
    assert list(shown) == [0, 1, 2, 3, 4, 6]
    for number, (_, label, size, ratio, tie, quality, held_out) in shown.items():
        one = truth[number]
        assert (size, ratio, quality) == (
            f"{one.bytes / 1000:.2f} kB", f"{truth[0].bytes / one.bytes:.2f}", f"{one.dev:.2f}",
        )  # fmt: skip
        assert one.frontier == (not tie and number not in (0, 6)), number
        assert (held_out == f"{one.test:.2f}") if one.test is not None else "(reference)" in label
    for number in BARRED:
        assert f"trial {number} (" in terminal
        assert re.search(rf"^trial {number} \(.*\) is kept off the frontier: ", terminal, re.MULTILINE)


def test_the_reports_points_are_the_ledgers(run: Path, terminal: str, truth: dict[int, Told]) -> None:
    page = (run / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    views = json.loads(found[1])["views"]
    points = {one["trial"]: one for one in views["dev"]["points"]}
    assert set(points) == set(truth)
    for number, one in truth.items():
        drawn = points[number]
        assert (drawn["digest"], drawn["bytes"], drawn["frontier"]) == (one.digest, one.bytes, one.frontier), number
        assert drawn["quality"] == pytest.approx(one.dev)
        assert bool(drawn["keptOff"]) == (number in BARRED)
    held_out = {one["trial"]: one for one in views["test"]["points"]}
    assert {number: one["quality"] for number, one in held_out.items()} == pytest.approx(
        {number: one.test for number, one in truth.items() if one.test is not None}
    )
    assert {number for number, one in held_out.items() if one["frontier"]} == {
        number for number, one in truth.items() if one.frontier
    }


def test_csv_frame_and_table_are_the_ledgers(
    run: Path, terminal: str, truth: dict[int, Told], capsys: pytest.CaptureFixture[str]
) -> None:
    base = truth[0]
    rows = {int(row["trial"]): row for row in csv.DictReader(io.StringIO((run / "frontier.csv").read_text("utf-8")))}
    found = mtpareto.load_run(run)
    frame = found.to_frame().set_index("trial")
    assert set(rows) == set(frame.index) == {*truth, 10}
    assert [point.record.number for point in found.frontier] == _by_size(truth)
    assert {point.record.number for point in found.trials} == set(truth)
    assert [one.record.number for one in found.dropped] == [10]
    assert [record.number for record, _ in found.failures] == [31]
    for number, one in truth.items():
        row, framed = rows[number], frame.loc[number]
        assert (int(row["bytes"]), row["on_frontier"]) == (one.bytes, str(int(one.frontier)))
        assert (framed["bytes"], framed["on_frontier"]) == (one.bytes, int(one.frontier))
        assert float(row["chrf"]) == framed["chrf"] == pytest.approx(one.dev, abs=1e-6)
        assert float(row["ratio"]) == framed["ratio"] == pytest.approx(base.bytes / one.bytes, abs=1e-6)
        assert bool(row["kept_off"]) == (number in BARRED)

    def table(*more: str) -> list[dict[str, Any]]:
        columns = "trial,bytes,ratio,quality,kept,on_frontier"
        assert cli.main(["table", str(run), "--format", "json", "--columns", columns, *more]) == 0
        told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return told

    assert [row["trial"] for row in table()] == [0, *_by_size(truth)]
    for split in ("dev", "test"):
        told = {row["trial"]: row for row in table("--pick", "all", "--split", split)}
        assert set(told) == set(truth)
        for number, one in truth.items():
            quality, whole = (one.dev, base.dev) if split == "dev" else (one.test, base.test)
            assert (told[number]["bytes"], told[number]["on_frontier"]) == (one.bytes, one.frontier)
            if quality is None or whole is None:
                assert told[number]["quality"] is None and told[number]["kept"] is None
            else:
                assert told[number]["quality"] == pytest.approx(quality)
                assert told[number]["kept"] == pytest.approx(quality / whole)


def test_mlflows_mirror_is_the_ledgers(run: Path, terminal: str, truth: dict[int, Told]) -> None:
    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mtpareto").experiment_id
    runs = client.search_runs([experiment])
    numbers = {one.info.run_id: int(one.info.run_name.split(" ")[0]) for one in runs if "split" in one.data.tags}
    (parent,) = [one for one in runs if one.info.run_id not in numbers]
    base, rank = truth[0], {number: place for place, number in enumerate(reversed(_by_size(truth)), start=1)}
    for one in runs:
        metrics, split = one.data.metrics, one.data.tags.get("split")
        if one is parent or "failure" in one.data.tags:
            continue
        number = numbers[one.info.run_id]
        if number not in truth:
            assert metrics["on_frontier"] == 0.0 and "chrf" not in metrics
            continue
        told = truth[number]
        quality, whole, prefix = (told.dev, base.dev, "") if split == "dev" else (told.test, base.test, "test_")
        assert quality is not None and whole is not None
        assert metrics["bytes"] == told.bytes
        assert metrics[f"{prefix}chrf"] == pytest.approx(quality)
        assert metrics[f"{prefix}chrf_kept_percent"] == pytest.approx(100 * quality / whole)
        if split == "dev":
            assert (metrics["on_frontier"], metrics.get("rank", 0.0)) == (float(told.frontier), rank.get(number, 0))
            assert metrics["kept_off"] == float(number in BARRED)
    counts = {name: parent.data.metrics[name] for name in ("frontier_points", "kept_off", "dropped", "failures")}
    assert counts == {"frontier_points": len(rank), "kept_off": len(BARRED), "dropped": 1, "failures": 1}
    aliased = {
        alias: numbers[client.get_model_version_by_alias("run", alias).run_id]
        for alias in client.get_registered_model("run").aliases
    }
    assert aliased == {word: number for word, number in _picked(truth).items() if word in WORDS}


def test_the_pages_figures_are_the_ledgers(run: Path, truth: dict[int, Told], tmp_path: Path) -> None:
    assert cli.main(["page", str(run), "--to", str(tmp_path / "page")]) == 0
    page = json.loads((tmp_path / "page.json").read_text("utf-8"))
    assert (page["judged_on"], page["kept_off"], page["dropped_early"], page["failed"]) == ("test", len(BARRED), 1, 1)
    points = {one["trial"]: one for one in page["points"]}
    assert [number for number, one in points.items() if one["on_frontier"]] == _by_size(truth)
    base = truth[0]
    for number, told in points.items():
        one = truth[number]
        assert one.test is not None and base.test is not None
        assert (told["bytes"], told["ratio"]) == (one.bytes, pytest.approx(base.bytes / one.bytes))
        assert told["scores_mean"]["chrf"] == pytest.approx(one.test)
        assert (
            told["kept_mean"] is None
            if number == 0
            else told["kept_mean"]["share"] == pytest.approx(one.test / base.test)
        )
    picks = _picked(truth)
    assert page["figures"]["smallest_ratio_at_99"] == pytest.approx(base.bytes / truth[picks["smallest-at-99"]].bytes)


def test_a_pick_means_what_the_ledger_says(run: Path, truth: dict[int, Told]) -> None:
    for pick, number in _picked(truth).items():
        found = kept_model(run, pick)
        assert found.point.record.number == number, pick
        assert found.folder.name == f"trial-{number}-made"
    with pytest.raises(StudyError, match=r"no model takes at most 1\.90 kB"):
        kept_model(run, "<=1900B")


def _by_size(truth: Mapping[int, Told]) -> list[int]:
    """The numbers of the frontier's trials, from the largest."""
    return [one.number for one in sorted(truth.values(), key=lambda one: -one.bytes) if one.frontier]
