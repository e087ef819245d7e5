"""A training that is too short to do anything says so before it begins, and one that did nothing afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.study.spec import StudySpec
from orchestrator.study.training import Training, short_trainings
from orchestrator.study.values import TrainingSource
from search_spaces.methods.trainers import Finetune, Recover
from workers.reading.training_data import training_data
from workers.runtime.training_progress import Trained
from workers.training.enough import TROUBLES, changed_nothing, too_short
from workers.training.model_forms.writing import Written
from workers.training.steps import report_of


def test_fewer_steps_than_the_warm_up_are_too_few() -> None:
    # 20,000 tokens in batches of 64 pairs of 45 tokens: 7 steps, of which the warm-up takes 20.
    said = too_short(Recover(tokens=20_000), 7, 2880)
    assert said == (
        "too short to learn: 7 optimizer steps are fewer than the 20 of the warm-up, so that the rate gets no further "
        "than 35% of its peak; give recover about 290,000 tokens, smaller batches or a shorter warm_up"
    )


def test_fewer_than_some_tens_of_updates_are_too_few_without_a_warm_up_too() -> None:
    said = too_short(Finetune(tokens=20_000, warm_up=0), 6.4, 3000, "at most ")
    assert said is not None
    assert said.startswith(
        "too short to learn: at most 7 optimizer steps are fewer than 50; give finetune about 150,000"
    )
    assert too_short(Finetune(warm_up=0), 50, 3000) is None
    assert too_short(Recover(warm_up=200), 199, 3000) is not None
    assert too_short(Recover(warm_up=200), 200, 3000) is None


def test_the_note_comes_after_the_steps_and_stands_out() -> None:
    trained = Trained(20_000, 7, (), (), 64.06, 64.08)
    notes = report_of(Written(3, 3), trained, 40, 188.0, None, Recover(tokens=20_000)).notes
    assert notes[0] == "trained on 20,000 tokens in 7 steps"
    assert notes[1].startswith("too short to learn: 7 optimizer steps")
    assert notes[2] == "changed nothing measurable: validation chrF 64.06 → 64.08 (40 pairs)"
    assert [note.startswith(TROUBLES) for note in notes] == [False, True, True]


@pytest.mark.parametrize(
    ("after", "nothing"), [(50.0, True), (49.96, True), (50.04, True), (49.94, False), (50.1, False)]
)
def test_what_nobody_would_quote_is_nothing(after: float, nothing: bool) -> None:
    assert changed_nothing(50.0, after) is nothing


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    # A character is a token: 10 and 10, and the tokenizer's beginning of each.
    rows = [{"src": f"Katze {n:04d}", "ref": f"a cat {n:04d}", "langs": "de-en"} for n in range(300)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def test_a_studys_own_trainings_are_counted_before_anything_is_tokenized(
    pairs: Path, tmp_path: Path, character_tokenizer: Any
) -> None:
    model = tmp_path / "model"
    character_tokenizer.save_pretrained(model)
    data = training_data([(str(pairs), 1.0)], ["de-en"])
    anchors = ((Recover(tokens=9_000, loss="references"),), (Finetune(tokens=200_000, loss="references"),))
    spec = StudySpec(out="out", data="dev.jsonl", training=(TrainingSource(str(pairs)),), anchors=anchors)
    (line,) = short_trainings(spec, Training(data, (), {}), model)
    # 9,000 tokens in batches of 64 pairs of 22.
    assert ": too short to learn: at most 7 optimizer steps are fewer than the 20 of the warm-up" in line
    assert "tokens=9000" in line
    assert short_trainings(spec, Training(data, (), {}), tmp_path / "no tokenizer") == []
    once = StudySpec(
        out="out", data="dev.jsonl", training=spec.training, anchors=((Finetune(tokens=0, loss="references"),),)
    )
    assert short_trainings(once, Training(data, (), {}), model) == []
