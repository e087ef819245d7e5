"""The shipped data: its form, its sizes, and that what selects, what judges and what calibrates share no source."""

from __future__ import annotations

import json

import pytest

from tests.support.paths import DATA
from workers.reading.dataset import read_dataset
from workers.reading.segments import DataSet

PAIRS = ("en-cs", "en-de", "en-fr")
KEYS = [
    "langs", "line_id", "src", "tgt", "doc_id", "domain", "esa_spans", "esa_score", "system", "annotator",
    "speech_info",
]  # fmt: skip


@pytest.fixture(scope="module")
def sets() -> dict[str, DataSet]:
    files = {"subset": "subset.jsonl", "test": "test.jsonl", "calibration": "calibration.jsonl.gz"}
    return {name: read_dataset(DATA / file) for name, file in files.items()}


@pytest.mark.parametrize("name", ["subset", "test"])
def test_scored_sets_are_in_the_wmt24_esa_form_with_a_reference_in_each_language(
    name: str, sets: dict[str, DataSet]
) -> None:
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_bytes().splitlines()]
    assert all(list(row) == KEYS and row["system"] == "refA" for row in rows)
    assert sets[name].format == "wmt24_esa" and sets[name].pairs == PAIRS
    by_pair = {pair: [s.source for s in sets[name].segments if s.langs == pair] for pair in PAIRS}
    assert by_pair["en-de"] == by_pair["en-fr"] == by_pair["en-cs"]
    assert len(set(by_pair["en-de"])) == len(by_pair["en-de"]) >= 80


def test_calibration_has_enough_pairs_in_each_language(sets: dict[str, DataSet]) -> None:
    assert len(sets["calibration"].segments) >= 1200
    assert sets["calibration"].pairs == PAIRS


def test_the_three_sets_share_no_source(sets: dict[str, DataSet]) -> None:
    sources = {name: {" ".join(s.source.lower().split()) for s in data.segments} for name, data in sets.items()}
    assert not sources["subset"] & sources["test"]
    assert not sources["subset"] & sources["calibration"]
    assert not sources["test"] & sources["calibration"]
