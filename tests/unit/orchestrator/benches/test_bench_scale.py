"""bench scale: its figures from recorded trials, what it watches, and the model and data that it makes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.benches.compress import SHAPES as NAMES
from orchestrator.benches.figures import SCALE
from orchestrator.benches.scale import (
    SEGMENTS,
    ScaleRequest,
    anchors,
    plain_figures,
    scale_figures,
    study_of,
    turnaround,
    write_data,
)
from orchestrator.benches.table import explain_figure
from orchestrator.benches.watch import DiskWatch, bytes_of, share_of_seconds
from orchestrator.ledger.records import TrialRecord, record_from_json
from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.errors import StudyError
from search_spaces.outcome import Failure
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import measurement, trial
from workers.benches.compression_speed import SHAPES
from workers.benches.scale_model import make_model
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.reading.dataset import read_dataset


def record(number: int, worker: str, started: str, ended: str, seconds: dict[str, float]) -> TrialRecord:
    line: dict[str, Any] = {
        "attempt": 1,
        "hypotheses": None,
        **trial(replace(measurement(60.0), seconds=seconds), number=number),
        "started": f"2026-11-01T10:00:{started}+00:00",
        "ended": f"2026-11-01T10:00:{ended}+00:00",
        "worker": worker,
    }
    return record_from_json(line)  # type: ignore[arg-type]


def test_turnaround_is_what_lies_between_trials_of_one_worker_and_outside_stages() -> None:
    trials = [
        record(0, "one", "00.000", "10.000", {"translate": 9.0}),
        record(1, "two", "01.000", "20.000", {"translate": 2.0}),
        record(2, "one", "10.500", "20.000", {"compress": 5.0, "translate": 4.0}),
        record(3, "one", "20.250", "30.000", {"translate": 9.75}),
    ]
    assert turnaround(trials) == pytest.approx((0.5 + 0.5 + 0.25 + 0.0) / 2)
    assert turnaround(trials[:2]) == 0.0


def test_a_searchs_figures_name_each_candidates_stages() -> None:
    trials = [record(0, "one", "00.000", "10.000", {"translate": 9.0})]
    failed = record_from_json(
        {"attempt": 1, "hypotheses": None, **trial(Failure("out_of_memory", "load", "too big"), number=1)}  # type: ignore[arg-type]
    )
    found = scale_figures(90.0, [*trials, failed], 0.75)
    assert (found["minutes"], found["peak_disk_over_model"]) == (1.5, 0.75)
    assert (found["candidates_measured"], found["candidates_failed"]) == (1.0, 1.0)
    assert any(name.endswith("_translate_s") and value == 9.0 for name, value in found.items())
    plain = plain_figures({"load_s": 40.0, "segment_s": 2.0}, 12)
    assert plain["seed_way_hours"] == pytest.approx(12 * (40 + 512 * 2) / 3600)
    for name in (*list(found)[:5], *plain):
        assert explain_figure(name, SCALE)[0]


def test_seconds_with_any_work_are_counted() -> None:
    assert share_of_seconds([0, 0, 0.2, 0, 0] + [0.0] * 5 + [1.0]) == pytest.approx(2 / 3)
    assert share_of_seconds([]) == 0.0


def test_a_folders_bytes_count_hard_links_once_and_its_peak_is_seen(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("orchestrator.benches.watch.LOOK_SECONDS", 0.01)
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    (folder / "one").write_bytes(b"x" * 1000)
    os.link(folder / "one", folder / "deep" / "again")
    assert bytes_of(folder) == 1000
    with DiskWatch(folder) as disk:
        (folder / "deep" / "two").write_bytes(b"x" * 500)
        while disk.peak < 1500:
            pass
        (folder / "deep" / "two").unlink()
    assert disk.peak == 1500 and bytes_of(folder) == 1000
    assert bytes_of(tmp_path / "nowhere") == 0


def test_the_model_is_of_the_shape_and_every_candidate_of_the_study_fits_it(tmp_path: Path) -> None:
    request = ScaleRequest(output=tmp_path / "x.json", folder=tmp_path / "bench", shape="small")
    make_model(request.folder / "model", SHAPES["small"], SHIPPED_MODEL, torch.device("cpu"))
    write_data(request.folder)
    checkpoint = read_checkpoint(request.folder / "model")
    assert checkpoint.bytes == bytes_on_disk(request.folder / "model")
    spec = study_of(request)
    assert spec.trials == len(spec.anchors) + 1 == 12
    sizes = [predicted_bytes(checkpoint, steps) for steps in spec.anchors]
    assert all(size < checkpoint.bytes for size in sizes)
    with pytest.raises(StudyError, match="exists; name another --folder"):
        ScaleRequest(output=tmp_path / "x.json", folder=tmp_path / "bench", shape="small")
    with pytest.raises(StudyError, match="shape is 'large'; there are mistral-7b, small"):
        ScaleRequest(output=tmp_path / "x.json", folder=tmp_path / "other", shape="large")
    assert set(NAMES) <= set(SHAPES)
    assert len(anchors(32)) == 11


def test_data_and_calibration_share_no_source(tmp_path: Path) -> None:
    write_data(tmp_path)
    dev = read_dataset(tmp_path / "dev.jsonl")
    assert len(dev.segments) == SEGMENTS
    sources = {json.loads(line)["src"] for line in (tmp_path / "calibration.jsonl").read_text("utf-8").splitlines()}
    assert len(sources) > 400
    assert not sources & {segment.source for segment in dev.segments}
