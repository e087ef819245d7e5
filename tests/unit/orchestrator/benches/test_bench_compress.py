"""`mtpareto bench compress`: what it is asked, how runs add up in one results file, and its table's marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.benches.compress import BenchRequest
from orchestrator.benches.figures import COMPRESS
from orchestrator.benches.results_file import merge_results
from orchestrator.benches.table import as_page, explain_figure, meets
from orchestrator.cli import main
from tests.support.paths import ROOT

RESULTS = ROOT / "docs" / "results" / "bench-compress.json"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--shape", "llama"], "shape is 'llama'; there are mistral-7b, small"),
        (["--tokens", "many"], "tokens is 'many'; it must be two whole numbers"),
        (["--tokens", "9000,100"], "must be a short and a long calibration"),
        (["--parts", "speed,luck"], "parts has 'luck'; there are speed"),
        (["--parts", "llm-compressor"], "add the part speed"),
    ],
)
def test_what_it_can_not_be_asked_is_refused(
    flags: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "compress", "--data", "data/test.jsonl", "--json", str(tmp_path / "out.json"), *flags]
    assert main(command) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_results_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "notes.json"
    output.write_text('{"mine": 1}')
    assert main(["bench", "compress", "--data", "data/test.jsonl", "--json", str(output), "--parts", "errors"]) == 2
    assert "is not a results file" in capsys.readouterr().err
    assert output.read_text() == '{"mine": 1}'


def test_a_later_run_replaces_what_it_measured_and_says_so() -> None:
    first = merge_results(None, {"a": 1.00004, "b": 2.0}, {"parts": "all", "seed": 0}, "one")
    assert first == {"figures": {"a": 1.0, "b": 2.0}, "conditions": {"parts": "all", "seed": 0}, "command": "one"}
    second = merge_results(first, {"b": 3.0}, {"parts": "some", "seed": 0, "more": "x"}, "two")
    assert second["figures"] == {"a": 1.0, "b": 3.0}
    assert second["conditions"] == {"parts": "all; then some", "seed": 0, "more": "x"}
    assert second["command"] == "one; then two"
    third = merge_results(second, {"b": 4.0}, {"parts": "some", "seed": 1}, "three")
    assert third["conditions"] == {"parts": "all; then some", "seed": "0; then 1", "more": "x"}


def test_marks_are_held_on_their_own_side() -> None:
    assert meets(1.3, "<= 1.3") is True
    assert meets(1.31, "<= 1.3") is False
    assert meets(2.4, ">= 2.5") is False
    assert meets(2.4, "") is None
    assert explain_figure("mixed_minus_uniform3_low", COMPRESS) == ("lower end of its 95 % interval, paired", ">= 0")
    assert explain_figure("mixed_minus_uniform3_high", COMPRESS)[1] == ""


def test_the_page_that_ships_is_made_of_the_results_that_ship() -> None:
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert page == as_page(record, COMPRESS)
    assert all(explain_figure(name, COMPRESS)[0] for name in record["figures"])


def test_a_request_keeps_its_defaults() -> None:
    request = BenchRequest(data="x", output=Path("y"), shape="small", tokens=(1, 2), parts=("speed",))
    assert request.model.endswith("models/captions")
    assert request.calibration.endswith("data/calibration.jsonl.gz")
