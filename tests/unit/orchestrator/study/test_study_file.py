"""A study file says one thing: no key twice, and nothing that YAML's versions read differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.study.yaml_file import read_study
from search_spaces.errors import StudyError


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    return read_study(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials: 40\nseed: 1\ntrials: 4\n", "line 3: the key 'trials' stands in line 1 and in line 3"),
        ("data: x\nanchors:\n  - - {method: rtn, bits: 4, bits: 2}\n", "line 3: the key 'bits' stands twice in line 3"),
        (
            "anchors:\n- - method: rtn\n    bits: 4\n    bits: 4\n",
            "line 4: the key 'bits' stands in line 3 and in line 4",
        ),
        ("'seed': 1\n\"seed\": 1\n", "line 2: the key 'seed' stands in line 1 and in line 2"),
        ("training: [{file: a, weight: 1, file: b}]\n", "line 1: the key 'file' stands twice in line 1"),
        ("seed: 010\n", "line 1: 010 is read as a number in octal by some programs"),
        ("a: 1\nseed: 08\n", "line 2: 08 is read as a number in octal"),
        ("seed: -012\n", "line 1: -012 is read as a number in octal"),
        ("a: 1\n\nseed: 1:30\n", "line 3: 1:30 is read as a number in base 60 by some programs and as text by others"),
        ("anchors:\n  - - {method: rtn, bits: 1:04}\n", "line 2: 1:04 is read as a number in base 60"),
        ("floor: 1:30.5\n", "line 1: 1:30.5 is read as a number in base 60"),
    ],
)
def test_what_has_two_meanings_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value) and "study.yaml, line" in str(caught.value)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 250


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("NO", "NO"), ("on", "on"), ("Off", "Off"), ("yes", "yes"), ("en-no", "en-no"), ("y", "y"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("10", 10), ("0", 0), ("0x10", 16), ("1_000", 1000), ("-3", -3), ("0.5", 0.5), ("1e-3", 0.001), ("2E+4", 2e4),
        ("4e6", 4e6), (".5e3", 500.0), ("'010'", "010"), ('"1:30"', "1:30"), ("2026-11-28", "2026-11-28"),
        ("12:30:x", "12:30:x"), ("10.0.0.1:6379", "10.0.0.1:6379"), ("v1e", "v1e"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_people_read_it(tmp_path: Path, written: str, value: object) -> None:
    found = read(tmp_path, f"data: {written}\n")["data"]
    assert found == value and type(found) is type(value)
    assert read(tmp_path, f"data: [{written}]\n")["data"] == ([] if written == "" else [value])


@pytest.mark.parametrize("key", ["skip_bad_rows", "speed", "symmetric", "double_quantization"])
@pytest.mark.parametrize(
    ("written", "value"), [("no", False), ("on", True), ("Yes", True), ("off", False), ("'no'", "no")]
)
def test_a_key_that_wants_true_or_false_takes_words(tmp_path: Path, key: str, written: str, value: object) -> None:
    assert read(tmp_path, f"{key}: {written}\n")[key] == value


def test_norwegian_is_no_boolean_as_a_key(tmp_path: Path) -> None:
    assert read(tmp_path, "names: {no: Norwegian, on: x}\n") == {"names": {"no": "Norwegian", "on": "x"}}


def test_a_key_of_a_merged_mapping_may_be_set_again(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n"
    assert read(tmp_path, text)["c"] == {"x": 3, "y": 4}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml is empty; a study has at least"):
        read(tmp_path, text)
