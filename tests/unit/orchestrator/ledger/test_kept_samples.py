"""Samples that a run keeps: those that were drawn, and drawn anew where anything they depend on is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.ledger import kept_samples
from orchestrator.ledger.kept_samples import SAMPLES, statistics_of
from orchestrator.ledger.records import read_hypotheses, read_ledger
from orchestrator.results import intervals
from orchestrator.results.intervals import Intervals
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet
from workers.scoring.bins import parse_bins
from workers.scoring.breakdown import breakdown
from workers.scoring.metrics import corpus_statistics, group_scorer

BINS = parse_bins("0-100")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return write_data(tmp_path / "dev.jsonl")


@pytest.fixture
def run(tmp_path: Path, data: DataSet) -> Path:
    return write_run(tmp_path / "run", {"dev": data}, [Made(10_000, 0.1, None), Made(4_000, 0.2, 4)])


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metric of each drawing, as it happens."""
    happened: list[str] = []
    plain = intervals.resampled_scores

    def counted(metric: str, *arguments: object) -> object:
        happened.append(metric)
        return plain(metric, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(intervals, "resampled_scores", counted)
    return happened


def samples_of(run: Path, data: DataSet, seed: int = 0) -> np.ndarray:
    return Intervals(run, data, seed).samples(read_ledger(run).on("dev"))


def test_a_second_reader_draws_nothing_and_says_the_same(run: Path, data: DataSet, draws: list[str]) -> None:
    first = samples_of(run, data)
    assert draws == ["chrf", "chrf"] and len(list((run / SAMPLES).iterdir())) == 4, "samples and statistics of each"
    assert np.array_equal(samples_of(run, data), first)
    assert len(draws) == 2


def test_another_seed_another_file_and_a_changed_one_are_drawn_anew(run: Path, data: DataSet, draws: list[str]) -> None:
    first = samples_of(run, data)
    assert not np.array_equal(samples_of(run, data, seed=1), first) and len(draws) == 4
    record = read_ledger(run).on("dev")[1]
    file = run / str(record.hypotheses)
    file.write_text(file.read_text("utf-8").replace("Hund", "Katze"), "utf-8")
    assert not np.array_equal(samples_of(run, data)[1], first[1]) and len(draws) == 5


def test_a_file_that_is_cut_short_is_drawn_anew(run: Path, data: DataSet, draws: list[str]) -> None:
    first = samples_of(run, data)
    for file in (run / SAMPLES).iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(samples_of(run, data), first)
    assert len(draws) == 4


def test_a_run_that_nothing_can_be_written_in_is_read_all_the_same(run: Path, data: DataSet, draws: list[str]) -> None:
    (run / SAMPLES).write_text("in the way", "utf-8")
    first = samples_of(run, data)
    assert np.array_equal(samples_of(run, data), first)
    assert len(draws) == 4


@pytest.mark.parametrize("metric", ["chrf", "bleu", "ter"])
def test_statistics_are_worked_out_once_and_take_few_bytes(
    run: Path, data: DataSet, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_ledger(run).on("dev")[1]
    plain = corpus_statistics(metric, data.segments, read_hypotheses(run, record))
    first = statistics_of(run, record, data, metric)
    monkeypatch.setattr(kept_samples, "corpus_statistics", None)
    kept = statistics_of(run, record, data, metric)
    assert kept.keys() == first.keys() == plain.keys()
    for pair, rows in plain.items():
        assert np.array_equal(kept[pair], rows)
        assert kept[pair].itemsize <= 2 or rows.dtype.kind == "f"
    group, again = (group_scorer(metric, data.segments, one) for one in (plain, kept))
    assert group([0, 1, 2]) == again([0, 1, 2])
    texts = read_hypotheses(run, record)
    assert breakdown(metric, data.segments, texts, BINS, statistics=kept) == breakdown(
        metric, data.segments, texts, BINS
    )
