"""COMET reaches a finished run: stored hypotheses through the COMET actor, and from there into every page."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

import pytest

from orchestrator.ledger.records import read_hypotheses, read_ledger
from orchestrator.ledger.rescored import read_rescored, trial_key
from search_spaces.outcome import Race
from tests.ray.conftest import Command
from tests.support.recorded_run import Made, write_data, write_run
from tests.support.tiny_comet import Row, built, in_comet, scored
from workers.scoring.metrics import lines_by_pair

TRIALS = [Made(100, 0.0, None), Made(60, 0.3, 8), Made(40, 0.5, 4, race=Race("dominated", 1, 10, -20.0, -4.0, 50.0))]


def test_comet_of_a_finished_run_is_comets_own_and_shown_beside_chrf(runs: Path, here: Command) -> None:
    data = write_data(runs / "dev.jsonl")
    folder = write_run(runs / "run", {"dev": data}, TRIALS, tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    records = read_ledger(folder).on("dev")
    systems = [read_hypotheses(folder, record) for record in records]
    rows: list[list[Row]] = [
        [(segment.source, text, segment.references[0]) for segment, text in zip(data.segments, texts, strict=False)]
        for texts in systems
    ]
    model = runs / "model"
    answers = in_comet(built(model), *(scored(model, each, batch=16) for each in rows))[1:]
    done = here("rescore", str(folder), "--metrics", "comet,ter", "--comet-model", str(model))
    assert done.returncode == 0, done.stdout + done.stderr
    comet = read_rescored(folder)["comet"]
    for record, expected in zip(records, answers, strict=True):
        by_pair = lines_by_pair(data.segments[: len(expected)])
        for pair, lines in by_pair.items():
            score = comet[trial_key(record)][pair]
            assert score.value == pytest.approx(100 * fmean(expected[line] for line in lines), abs=1e-3)
            assert score.signature.startswith("comet:")
    with (folder / "frontier.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert float(table[1]["comet"]) == pytest.approx(
        fmean(score.value for score in comet[trial_key(records[1])].values()), abs=1e-6
    )
    assert table[2]["comet"] == "", "a trial dropped early has no score to compare"
    assert "COMET" in (folder / "report.html").read_text(encoding="utf-8")
