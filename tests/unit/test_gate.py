"""The gate of a training, on a model that translates: worse is said where it is beyond chance."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.study import SHIPPED_CALIBRATION, SHIPPED_MODEL
from search_spaces.trainers import Finetune
from tests.trained_parents import empty, training_context
from workers.compression.context import CompressionContext
from workers.compression.registry import compress
from workers.prompts import PROMPTS
from workers.training.data import training_data
from workers.training.progress import MADE_WORSE

# One step.
STEP = Finetune(tokens=20, batch=2, warm_up=0, loss="references")


@pytest.fixture
def context(tmp_path: Path) -> CompressionContext:
    data = training_data([(str(SHIPPED_CALIBRATION), 1.0)], ["en-de"])
    return replace(training_context(tmp_path, SHIPPED_MODEL, training=data), prompt=PROMPTS["alma"])


@pytest.mark.parametrize(
    ("rate", "note"),
    [
        (1e-3, rf"{MADE_WORSE}: held-out chrF [\d.]+ → [\d.]+ \(45 pairs\)"),
        (1e-4, r"held-out chrF [\d.]+ → [\d.]+, a tie \(45 pairs, 95 % -[\d.]+ to \+[\d.]+\)"),
    ],
)
def test_worse_is_said_of_what_is_worse_beyond_chance(
    context: CompressionContext, tmp_path: Path, rate: float, note: str
) -> None:
    notes = compress(SHIPPED_MODEL, empty(tmp_path), replace(STEP, rate=rate), context).notes
    assert any(re.fullmatch(note, one) for one in notes), notes
