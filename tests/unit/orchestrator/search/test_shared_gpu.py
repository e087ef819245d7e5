"""A study that says nothing of shares has several trials on a GPU that holds them; what it says stays."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.search import driver
from orchestrator.search.prepared import Study, prepare
from orchestrator.study.spec import spec_from_mapping
from tests.support.paths import ROOT

DATA = str(ROOT / "data" / "subset.jsonl")
LARGE = 150 * 10**9


def shared(folder: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, **more: object) -> tuple[Study, str]:
    """The study as a search on such a GPU, with 16 CPUs, begins it, and what the search says of that."""
    monkeypatch.setattr(driver, "gpu_memory", lambda: memory)
    monkeypatch.setattr(driver, "available_bytes", lambda: LARGE)
    monkeypatch.setattr(driver.ray, "cluster_resources", lambda: {"GPU": 1.0, "CPU": 16.0})
    told = io.StringIO()
    asked = {"data": DATA, "out": str(folder / "run"), "trials": 12, **more}
    study = prepare(spec_from_mapping(asked).absolute(), Console(quiet=True), dry=True)
    return driver._shared(study, Console(file=told, width=200)), told.getvalue()


def test_a_small_models_trials_share_a_large_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, told = shared(tmp_path, monkeypatch, LARGE)
    assert study.spec.gpus_per_trial == 0.25
    assert told == "sharing   4 trials share a GPU, 0.25 each; with --gpus-per-trial 1 each has its own\n"


@pytest.mark.parametrize(
    ("memory", "more"),
    [
        (None, {}),
        (10**8, {}),
        (LARGE, {"gpus_per_trial": 1}),
        (LARGE, {"gpus_per_trial": 0.5}),
        (LARGE, {"max_concurrent": 1}),
        (LARGE, {"trials": 1}),
        (LARGE, {"device_map": "cpu"}),
    ],
)
def test_nothing_is_shared_where_it_is_said_or_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, more: dict[str, object]
) -> None:
    study, told = shared(tmp_path, monkeypatch, memory, **more)
    assert study.spec.gpus_per_trial == more.get("gpus_per_trial") and told == ""
