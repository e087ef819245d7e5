"""The studies in studies/ are read, and ask for what their comments say."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.study.spec import StudySpec, spec_from_mapping
from orchestrator.study.values import TrainingSource
from orchestrator.study.yaml_file import read_study
from search_spaces.methods.recipes import recipe
from search_spaces.methods.reference_points import REFERENCE_POINTS
from search_spaces.methods.registry import step_from_json
from tests.support.paths import ROOT
from tests.support.published_models import MODELS

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def read(path: Path) -> StudySpec:
    return spec_from_mapping(read_study(path))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_it_asks_for_what_its_comments_say(path: Path) -> None:
    spec, pairs = read(path), ("de", "ru", "zh") if "tower" in path.stem else ("cs", "de", "ru", "zh")
    assert (spec.model in MODELS, spec.space, spec.trials, spec.quality) == (True, "joint", 60, "chrf")
    assert spec.langs == tuple(f"{one}-{other}" for code in pairs for one, other in ((code, "en"), ("en", code)))
    assert spec.reference_points == tuple(REFERENCE_POINTS.values())
    folder = "ALMA/human_written_data"
    assert spec.data == tuple(f"{folder}/{code}en/valid.{code}-en.json" for code in pairs)
    tests = [f"{folder}/{code}en/test.{langs}.json" for code in pairs for langs in (f"{code}-en", f"en-{code}")]
    assert list(spec.test_files) == tests
    assert spec.training == tuple(TrainingSource(f"{folder}/{code}en/train.{code}-en.json") for code in pairs)
    assert spec.calibration_files == tuple(source.file for source in spec.training)
    general = path.stem.startswith("qwen")
    assert spec.baseline == ((step_from_json(recipe({"recipe": "alma-full"})),) if general else ())
    assert spec.prompt == ("alma" if "alma" in path.stem else "chat")
    assert f"mtpareto search studies/{path.name}" in path.read_text(encoding="utf-8")
    assert spec.out == f"runs/{path.stem}"


def test_there_is_one_for_each_model() -> None:
    assert {read(path).model for path in STUDIES} == set(MODELS)
