"""What `main.py` writes of each segment: the failed checks stand in both files, beside the scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from orchestrator.single_files import Line, write_files
from tests.examples import segment


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
