"""What every compression method is given, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from workers.reading.segments import Segment
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.translation.prompts import Prompt

if TYPE_CHECKING:
    from workers.reading.training_data import TrainingData
    from workers.runtime.training_progress import Point

DEFAULT_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class CompressionContext:
    """calibration: pairs in the study's languages, for methods that look at activations. prompt: how they are shown to
    the model. device: where the arithmetic runs. seed: for methods that draw. store: where calibration statistics and
    profiles are kept for later trials; parent_key: names the parent's content there. calibration_tokens: how many the
    statistics are taken over. calibration_text: running text to take them over instead of the pairs.

    For steps that train: training: what they train on; None where the study names nothing. teacher: the uncompressed
    base model's folder; teacher_key: names its content. report: is told of the training's progress. processes: GPUs
    that train one model together."""

    calibration: Sequence[Segment]
    prompt: Prompt
    device: torch.device
    seed: int
    trust_remote_code: bool = False
    store: Path | None = None
    parent_key: str = ""
    calibration_tokens: int = DEFAULT_TOKENS
    calibration_text: Sequence[str] = ()
    training: TrainingData | None = None
    teacher: Path | None = None
    teacher_key: str = ""
    report: ProgressCallback = ignore_progress
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What a method did. targeted, changed: parameters of the weights it should have changed, and of those whose
    stored form did change. notes: facts for the trial's record, such as which layers went. curve: of a step that
    trained, its points in order. seconds: that it trained, 0 for one that did not. Two reports of the same work are
    equal, whatever its time."""

    targeted: int
    changed: int
    notes: tuple[str, ...] = ()
    curve: tuple[Point, ...] = field(default=(), compare=False)
    seconds: float = field(default=0.0, compare=False)

    def with_notes(self, notes: Sequence[str]) -> Report:
        """The report with these notes after its own."""
        return replace(self, notes=(*self.notes, *notes))
