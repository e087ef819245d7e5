"""What a study calibrates on: never what it is measured on, the same when it goes on, asked for where it is missing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator import calibration, cli
from orchestrator.calibration import Calibration, read_calibration, read_text, refuse_changed_calibration
from orchestrator.ledger import create_ledger
from orchestrator.search import header, prepare, resume_search
from orchestrator.study import SHIPPED_CALIBRATION, StudySpec
from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods import Step
from search_spaces.pruners import RemoveHeads
from tests.examples import dataset, segment
from workers.reading import DataError

QUIET = Console(quiet=True)
DEV = dataset([segment("A dog runs.", "Ein Hund rennt."), segment("Two men.", "Zwei Männer.", "Zwei Leute.")])


def write(path: Path, *rows: tuple[str, str, str]) -> str:
    lines = [json.dumps({"src": source, "ref": reference, "langs": langs}) for source, reference, langs in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl", ("A cat sleeps.", "Eine Katze schläft.", "en-de"))


def spec(tmp_path: Path, **fields: Any) -> StudySpec:
    dev = write(tmp_path / "dev.jsonl", ("A dog runs.", "Ein Hund rennt.", "en-de"))
    return StudySpec(**{"out": str(tmp_path / "out"), "data": dev, **fields})


def text(tmp_path: Path, lines: Iterable[str]) -> str:
    (tmp_path / "news.txt").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "news.txt")


def test_pairs_and_text_are_read_and_reach_every_trial(tmp_path: Path, pairs: str) -> None:
    news = text(tmp_path, ["First line.", "", "  Second\u2028line. "])
    study = prepare(spec(tmp_path, calibration=pairs, calibration_text=news, calibration_tokens=999), QUIET)
    plan = study.plan(gpus=0)
    assert plan.calibration is not None
    assert [pair.source for pair in plan.calibration.segments] == ["A cat sleeps."]
    assert plan.calibration_text == ("First line.", "Second\u2028line.")
    assert plan.calibration_tokens == 999
    assert prepare(spec(tmp_path), QUIET).plan(gpus=0).calibration_tokens == 65_536


@pytest.mark.parametrize("langs", ["en-de", "en-zh"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_pair_whose_source_is_measured_on_is_refused_in_every_language(
    tmp_path: Path, split: str, langs: str
) -> None:
    shared = write(tmp_path / "pairs.jsonl", ("New one.", "Neu.", "en-de"), ("A dog runs.", "X.", langs))
    with pytest.raises(StudyError, match=rf"'A dog runs.' \({langs}\) is in both the {split} and the calibration data"):
        read_calibration(spec(tmp_path, calibration=shared), {split: DEV})


@pytest.mark.parametrize("line", ["A dog runs.", " A dog runs. ", "Ein Hund rennt.", "Zwei Leute."])
def test_a_line_of_text_that_is_measured_on_is_refused(tmp_path: Path, pairs: str, line: str) -> None:
    news = text(tmp_path, ["Something else.", line])
    with pytest.raises(StudyError, match=r"is in both the test data and calibration_text \(its line 2,"):
        read_calibration(spec(tmp_path, calibration=pairs, calibration_text=news), {"test": DEV})


def test_what_is_shipped_is_apart(tmp_path: Path) -> None:
    root = SHIPPED_CALIBRATION.parent
    shipped = StudySpec(out=str(tmp_path), data=str(root / "subset.jsonl"), test=str(root / "test.jsonl"))
    assert len(prepare(shipped, QUIET).calibration.pairs.segments) > 1000


def test_a_study_without_calibration_pairs_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "SHIPPED_CALIBRATION", tmp_path / "none.jsonl")
    flags = ["--data", spec(tmp_path).data, "--out", str(tmp_path / "out"), "--space", "sparsity"]
    assert cli.main(["search", *flags]) == 2
    said = capsys.readouterr().err
    assert "the space sparsity has methods that look at activations" in said and "--calibration" in said
    assert not (tmp_path / "out").exists()


def test_a_text_file_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "news.txt.gz").write_bytes(gzip.compress(b"Eins.\r\n\r\nZwei.\n"))
    assert read_text(tmp_path / "news.txt.gz") == ("Eins.", "Zwei.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"good\n\xff\xfe bad\n", r"line 2: .*must be UTF-8"),
    ],
)
def test_a_text_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "news.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"news\.txt.*{reason}"):
        read_text(tmp_path / "news.txt")


def test_a_missing_text_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_text(tmp_path / "none.txt")


def test_a_study_goes_on_with_the_calibration_it_began_with(tmp_path: Path, pairs: str) -> None:
    study = prepare(spec(tmp_path, calibration=pairs), QUIET)
    began = header(study)
    refuse_changed_calibration(began, study.calibration, tmp_path)
    for other in (
        Calibration(dataset([segment("Another.", "Anders.")])),
        Calibration(study.calibration.pairs, ("A line.",)),
    ):
        with pytest.raises(StudyError, match=r"calibration data of the study in .* has changed since it began"):
            refuse_changed_calibration(began, other, tmp_path)


def test_resume_reads_and_checks_the_calibration_again(tmp_path: Path, pairs: str) -> None:

    study = prepare(spec(tmp_path, calibration=pairs).absolute(), QUIET)
    create_ledger(study.spec.folder, header(study))
    write(Path(pairs), ("A dog runs.", "Ein Hund rennt.", "en-de"))
    with pytest.raises(StudyError, match="is in both the dev and the calibration data"):
        resume_search(study.spec.folder, QUIET)
    write(Path(pairs), ("A bird sings.", "Ein Vogel singt.", "en-de"))
    with pytest.raises(StudyError, match=r"calibration data of the study in .* has changed"):
        resume_search(study.spec.folder, QUIET)


def test_an_anchor_that_the_model_cannot_take_is_refused_up_front(tmp_path: Path, pairs: str) -> None:

    impossible: tuple[tuple[Step, ...], ...] = ((RemoveHeads(groups=1),),)
    with pytest.raises(CandidateError, match="leaves 3 heads, which do not divide the hidden size 256"):
        prepare(spec(tmp_path, calibration=pairs, anchors=impossible), QUIET)


def test_only_pairs_in_the_languages_of_the_study_are_calibrated_on(tmp_path: Path) -> None:
    file = write(
        tmp_path / "pairs.jsonl",
        ("A cat sleeps.", "Eine Katze schläft.", "en-de"),
        ("A cat sleeps.", "Un chat dort.", "en-fr"),
    )
    found = read_calibration(spec(tmp_path, calibration=file), {"dev": DEV})
    assert [pair.langs for pair in found.pairs.segments] == ["en-de"]
    whole = read_calibration(spec(tmp_path, calibration=file), {"dev": dataset([segment(langs="en-cs")])})
    assert [pair.langs for pair in whole.pairs.segments] == ["en-de", "en-fr"]
    assert found.identity() != whole.identity()
