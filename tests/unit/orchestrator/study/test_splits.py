"""What selects and what judges hold no source together: all that do are counted, and left out of dev where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.run_folder import read_data
from orchestrator.search.prepared import prepare
from orchestrator.study.spec import StudySpec
from orchestrator.study.splits import separate_splits
from search_spaces.errors import StudyError
from tests.support.examples import dataset, segment
from workers.reading.segments import segments_digest


def rows(path: Path, *sources: str) -> str:
    lines = [json.dumps({"src": source, "ref": "Satz.", "langs": "en-de"}) for source in sources]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_shared_sources_are_all_counted_and_the_first_few_shown() -> None:
    dev = dataset([segment(f"Thank you {number}.", id=str(number)) for number in range(6)])
    test = dataset([segment(f"Thank you {number}.", id=f"t{number}") for number in range(5)])
    with pytest.raises(StudyError) as caught:
        separate_splits({"dev": dev, "test": test}, leave_out=False)
    said = str(caught.value)
    assert "the dev and the test data share 5 sources: 'Thank you 0.' (en-de), 'Thank you 1.' (en-de)" in said
    assert "and 2 more" in said and "--skip-bad-rows" in said and len(said) < 300


def test_they_are_left_out_of_dev_alone_and_counted(tmp_path: Path) -> None:
    dev, test = rows(tmp_path / "dev.jsonl", "Thank you.", "A dog."), rows(tmp_path / "t.jsonl", "Thank you.", "A cat.")
    spec = StudySpec(out=str(tmp_path / "out"), data=dev, test=test, skip_bad_rows=True)
    data = read_data(spec)
    assert [one.source for one in data["dev"].segments] == ["A dog."]
    assert data["dev"].digest == segments_digest(data["dev"].segments)
    assert [one.source for one in data["test"].segments] == ["Thank you.", "A cat."]
    assert data["dev"].left_out == (("sources that are in the test data too", 1),)
    with Console(width=200).capture() as _:
        console = Console(record=True, width=200, quiet=False, file=(tmp_path / "said.txt").open("w"))
        prepare(spec, console)
    assert "dev.jsonl: 1 left out (sources that are in the test data too)" in console.export_text()


def test_the_same_source_in_another_direction_is_apart() -> None:
    splits = {"dev": dataset([segment(langs="en-de")]), "test": dataset([segment(langs="en-cs")])}
    assert separate_splits(splits, leave_out=False) == splits


def test_where_nothing_of_dev_stays_it_is_refused_in_any_case() -> None:
    both = {"dev": dataset([segment()]), "test": dataset([segment(id="2")])}
    with pytest.raises(StudyError, match="all 1 segment of the dev data are in the test data too"):
        separate_splits(both, leave_out=True)
