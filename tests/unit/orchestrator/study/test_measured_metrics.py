"""Which metrics a study measures, and what is said where COMET can't be had."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from orchestrator.study.metrics import metrics_of
from orchestrator.study.spec import StudySpec
from search_spaces.errors import UserError


def spec(**changes: str) -> StudySpec:
    return StudySpec(**{"out": "runs/x", "data": "data.jsonl", **changes})


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MTPARETO_COMET", str(tmp_path / "by-hand"))


@pytest.mark.usefixtures("no_models")
def test_without_comet_chrf_is_measured_and_the_reason_said() -> None:
    said: list[str] = []
    assert metrics_of(spec(), said.append) == ("chrf", "bleu")
    assert len(said) == 1 and "COMET is not shown beside chrF" in said[0] and "--comet-model" in said[0]


@pytest.mark.usefixtures("no_models")
def test_comet_that_is_asked_for_and_is_not_there_is_refused() -> None:
    for asked in (spec(quality="comet"), spec(comet_model="Unbabel/wmt22-comet-da")):
        with pytest.raises(UserError, match=r"checkpoints/model\.ckpt"):
            metrics_of(asked, print)


@pytest.mark.usefixtures("no_models")
def test_a_study_that_began_without_comet_goes_on_without_it_and_nothing_is_said() -> None:
    said: list[str] = []
    assert metrics_of(spec(), said.append, earlier=("chrf", "bleu")) == ("chrf", "bleu")
    assert said == []
