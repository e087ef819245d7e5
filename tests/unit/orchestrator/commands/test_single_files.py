"""What `main.py` writes of each segment: the failed checks stand in both files, beside the scores."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import pytest

from orchestrator.commands.score_files import read_lines
from orchestrator.commands.single_files import Line, refuse_unwritable, write_files
from search_spaces.errors import UserError
from tests.support.examples import segment


def test_failed_checks_are_in_the_predictions_and_in_the_rows(tmp_path: Path) -> None:
    fine = Line(segment(human_score=90.0), "Ein Hund läuft.", False, {"chrf": 60.0, "ter": 33.3}, "60-100", ())
    bad = Line(segment(id="2"), "da da", True, {"chrf": 0.0, "ter": 100.0}, "unscored", ("repeated", "truncated"))
    write_files(tmp_path / "out", {"counts": {}}, [fine, bad])

    text = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8")
    predictions = [json.loads(line) for line in text.splitlines()]
    assert [line["failed_checks"] for line in predictions] == [[], ["repeated", "truncated"]]
    assert predictions[0]["pred"] == "Ein Hund läuft." and predictions[0]["metrics"] == {"chrf": 60.0, "ter": 33.3}

    with (tmp_path / "out" / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["failed_checks"], row["ter"], row["truncated"], row["score"]) for row in rows] == [
        ("", "33.3", "0", "90.0"),
        ("repeated truncated", "100.0", "1", ""),
    ]
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8")) == {"counts": {}}


@pytest.mark.parametrize("outdir", ["out", "out/deeper/still", "gone", "gone/deeper"])
def test_a_folder_that_cannot_be_made_is_refused_with_what_is_in_the_way(tmp_path: Path, outdir: str) -> None:
    (tmp_path / "out").write_text("results of last year", encoding="utf-8")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    said = f"{tmp_path / outdir.split('/')[0]} exists and is not a folder; name another with --outdir"
    with pytest.raises(UserError, match=re.escape(said)):
        refuse_unwritable(tmp_path / outdir)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "results of last year"


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(
        UserError, match=re.escape(f"{tmp_path} can't be written to; name another folder with --outdir")
    ):
        refuse_unwritable(tmp_path / "out" / "deeper")


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for outdir in (tmp_path / "out" / "deeper", tmp_path, Path("out"), Path()):
        refuse_unwritable(outdir)
    assert list(tmp_path.iterdir()) == []


def test_translations_are_written_as_text_too_a_line_a_segment(tmp_path: Path) -> None:
    texts = ["Ein Satz.", " Zwei\n\nZeilen,\r\nund drei\u2028vier\x0bfünf. ", "", "{}"]
    lines = [Line(segment(id=str(at)), text, False, {"chrf": 1.0}, "", ()) for at, text in enumerate(texts)]
    write_files(tmp_path, {}, lines)
    written = (tmp_path / "hypotheses.txt").read_text(encoding="utf-8")
    assert written == "Ein Satz.\nZwei Zeilen, und drei vier fünf.\n\n{}\n"
    assert read_lines(tmp_path / "predictions.jsonl").lines[1] == texts[1].rstrip()


def test_an_earlier_candidates_files_are_not_written_over_unasked(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    refuse_unwritable(tmp_path)
    (tmp_path / "summary.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds summary\.json of an earlier candidate; name another .* --overwrite"):
        refuse_unwritable(tmp_path)
    refuse_unwritable(tmp_path, overwrite=True)
