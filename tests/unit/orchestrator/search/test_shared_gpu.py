"""A study that says nothing of shares has several trials on a GPU that holds them; what it says stays. What needs a
GPU, or a profile, is refused without."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cluster.join import Placement
from orchestrator.search import driver
from orchestrator.search.prepared import Study, prepare
from orchestrator.study.spec import spec_from_mapping
from search_spaces.errors import StudyError
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


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpu_hours": 2.0}, "gpu_hours limits what trials hold of GPUs, and no trial holds one here"),
        ({"max_memory": "1GB"}, "max_memory is of a GPU's memory, and no trial holds one here"),
        (
            {"objectives": "quality,bytes,memory"},
            "the objective memory is of a GPU's memory, and no trial holds one here",
        ),
    ],
)
def test_what_is_of_a_gpu_is_refused_where_no_trial_holds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], said: str
) -> None:
    study, _ = shared(tmp_path, monkeypatch, None, **asked)
    monkeypatch.setattr(driver.cluster, "place", lambda *given: Placement(2.0, 0.0, 1))
    with pytest.raises(StudyError, match=said):
        driver._place(study)


@pytest.mark.parametrize("asked", [{"target": "chrf>=99%"}, {"objectives": "quality,bytes,speed"}])
def test_what_takes_a_profile_is_refused_with_few_trials(tmp_path: Path, asked: dict[str, object]) -> None:
    few = spec_from_mapping({"data": DATA, "out": str(tmp_path / "run"), "trials": 11, **asked}).absolute()
    with pytest.raises(StudyError, match="needs at least 12 trials besides the study's anchors and reference points"):
        prepare(few, Console(quiet=True), dry=True)
