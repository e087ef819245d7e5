"""The JSON Schema takes and refuses what a study does; the page of keys is what the keys say."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from orchestrator.study.schema import keys_table, study_schema
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.methods.recipes import RECIPES
from search_spaces.methods.registry import METHODS
from tests.support.paths import ROOT
from tests.support.studies import FULL, LEAST, WRONG

SCHEMA = study_schema()
PAGE = ROOT / "docs" / "study-file.md"


def errors(study: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(study)]


def test_it_is_a_schema_that_takes_the_studies_there_are() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    demo = yaml.safe_load((ROOT / "data" / "demo.yaml").read_text("utf-8"))
    for study in (LEAST, demo, FULL.to_json(), spec_from_mapping(LEAST).to_json(), {"space": "depth"}):
        assert errors(study) == []


def test_every_key_has_its_description_and_none_is_unknown() -> None:
    assert set(SCHEMA["properties"]) == {*StudySpec.__dataclass_fields__}
    assert all(len(found["description"]) > 20 for found in SCHEMA["properties"].values())
    assert errors({**LEAST, "trails": 3}) != []


# What only the program sees: numbers that JSON has not, an order, a name that is empty or of no method.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, value, _ in WRONG
        if not (isinstance(value, float) and not math.isfinite(value))
        and (name, value) not in [("rungs", [64, 64]), ("rungs", [256, 64]), ("rungs", [64.0])]
        and (name, value) not in [("calibration_tokens", 65536.0), ("training_gpus", 1.0)]
    ],
)
def test_it_refuses_what_a_study_refuses(name: str, value: object) -> None:
    assert errors({**LEAST, name: value}) != []


def test_steps_are_spelt_by_every_method_and_every_recipe() -> None:
    kinds = SCHEMA["properties"]["anchors"]["items"]["items"]["anyOf"]
    spelt = {
        found["properties"][key]["const"] for found in kinds for key in ("method", "recipe") if key in found["required"]
    }
    assert spelt == {*METHODS, *RECIPES}
    for steps, right in (
        ([{"method": "rtn", "bits": 4}, {"recipe": "heal", "rate": 1e-3}], True),
        ([{"method": "rtn", "bit": 4}], False),
        ([{"method": "rtn"}], False),
        ([{"method": "quip"}], False),
        ([{"recipe": "none"}], False),
        (["rtn"], False),
    ):
        assert (errors({**LEAST, "anchors": [steps]}) == []) is right, steps


def test_the_command_prints_it_and_the_table_and_the_page_has_the_table() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "schema"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, encoding="utf-8").stdout
    assert json.loads(printed) == SCHEMA
    table = subprocess.run(
        [*command, "--table"], capture_output=True, text=True, check=True, cwd=ROOT, encoding="utf-8"
    ).stdout
    assert table.rstrip("\n") == keys_table()
    assert keys_table() in PAGE.read_text("utf-8"), "make docs/study-file.md anew with `mtpareto schema --table`"
