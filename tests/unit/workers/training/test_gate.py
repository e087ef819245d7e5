"""The gate of a training, on a model that translates: worse is said where it is beyond chance."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.study.shipped import SHIPPED_CALIBRATION, SHIPPED_MODEL
from search_spaces.methods.trainers import Finetune
from tests.support.examples import segment
from tests.support.trained_parents import empty, training_context
from workers.evaluation.methods import compress
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment
from workers.reading.training_data import training_data
from workers.runtime.training_progress import MADE_WORSE, Trained
from workers.scoring.metrics import Interval
from workers.training import held_out_check
from workers.training.model_forms.writing import Written
from workers.training.steps import report_of
from workers.translation.prompts import PROMPTS

# One step.
STEP = Finetune(tokens=20, batch=2, warm_up=0, loss="references")


@pytest.fixture
def context(tmp_path: Path) -> CompressionContext:
    data = training_data([(str(SHIPPED_CALIBRATION), 1.0)], ["en-de"])
    return replace(training_context(tmp_path, SHIPPED_MODEL, training=data), prompt=PROMPTS["alma"])


@pytest.mark.parametrize(
    ("rate", "note"),
    [
        (1e-3, rf"{MADE_WORSE}: validation chrF [\d.]+ → [\d.]+ \(45 pairs\)"),
        (1e-4, r"validation chrF [\d.]+ → [\d.]+, a tie \(45 pairs, 95 % -[\d.]+ to \+[\d.]+\)"),
    ],
)
def test_worse_is_said_of_what_is_worse_beyond_chance(
    context: CompressionContext, tmp_path: Path, rate: float, note: str
) -> None:
    notes = compress(SHIPPED_MODEL, empty(tmp_path), replace(STEP, rate=rate), context).notes
    assert any(re.fullmatch(note, one) for one in notes), notes


def test_held_out_pairs_are_drawn_one_by_one_whatever_document_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [f"Ein Hund rennt {number} mal um das Haus." for number in range(40)]
    texts = {"before": [text[: 20 + number % 9] for number, text in enumerate(said)], "after": said}
    monkeypatch.setattr(held_out_check, "_of_folder", lambda folder, segments, context: texts[folder.name])

    def interval(documents: int) -> Interval:
        segments = [
            Segment(str(at), "en-de", "A dog.", (one,), f"file {at % documents}", "") for at, one in enumerate(said)
        ]
        return held_out_check.changed_interval(
            Path("before"), Path("after"), segments, training_context(tmp_path, tmp_path)
        )

    assert interval(2) == interval(40)
    assert interval(2).low < interval(2).high


def test_too_few_pairs_tell_nothing_from_chance() -> None:
    def pairs(**counts: int) -> list[Segment]:
        return [segment(langs=langs.replace("_", "-")) for langs, count in counts.items() for _ in range(count)]

    assert held_out_check.enough_to_judge(pairs(en_de=20)) and held_out_check.enough_to_judge(pairs(en_de=15, en_fr=5))
    assert not held_out_check.enough_to_judge(pairs(en_de=19))
    assert not held_out_check.enough_to_judge(pairs(en_de=100, en_fr=4))
    worse = Trained(10_000, 20, (), (), 50.0, 40.0, since=4_000)
    notes = report_of(Written(3, 3), worse, 4, 1.0).notes
    assert notes[0] == "trained on 10,000 tokens in 20 steps, from 4,000 on in this attempt"
    assert notes[1] == "validation chrF 50.00 → 40.00 (4 pairs, too few to tell from chance)"
