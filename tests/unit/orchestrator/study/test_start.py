"""What a study says that its space's candidates begin with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.search.made_first import study_of
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.errors import StudyError
from search_spaces.methods.reference_points import REFERENCE_POINTS
from search_spaces.methods.trainers import Finetune
from tests.support.paths import ROOT

DATA = str(ROOT / "data" / "subset.jsonl")
LONGER = {"recipe": "quantization-aware-references", "tokens": 16_000_000, "batch": 128}
STEP = Finetune(reference_share=0.5, tokens=16_000_000, batch=128)


def study(**more: Any) -> StudySpec:
    return spec_from_mapping({"data": DATA, "out": "runs/x", "training": ["pairs.jsonl"], **more})


def test_it_is_a_reference_point_before_the_others() -> None:
    spec = study(start=[LONGER], reference_points="rtn-4", anchors=[[{"method": "gptq", "bits": 3}]])
    assert spec.start == (STEP,)
    assert spec.marks == ((STEP,), REFERENCE_POINTS["rtn-4"])
    assert spec.given[:2] == spec.marks and len(spec.given) == 3
    assert spec_from_mapping(json.loads(json.dumps(spec.to_json()))) == spec
    assert study().marks == ()


def test_the_study_that_makes_a_baseline_has_none() -> None:
    assert study_of(study(start=[LONGER], baseline=[{"recipe": "alma-full"}])).start == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"start": [{"method": "rtn", "bits": 4}]}, r"start has rtn\(.*\), and .* trainings of all weights"),
        ({"start": [{"recipe": "alma-lora"}]}, r"start has recover\("),
        ({"start": [LONGER], "space": "student"}, "student trains; leave it out"),
        ({"start": [LONGER], "objectives": "quality,bytes,speed"}, "has speed for an objective"),
        ({"start": [LONGER], "training": None}, "names no training data"),
        ({"start": [LONGER], "trials": 1}, "the baseline and the 1 reference points take 2"),
        ({"start": [LONGER, LONGER]}, "two trainings in a row are one"),
    ],
)
def test_what_can_not_be_begun_with_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises((StudyError, ValueError), match=said):
        study(**more)
