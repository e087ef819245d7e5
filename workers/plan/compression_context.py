"""What every compression method is given, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from search_spaces.parameters import DEFAULT_CALIBRATION_TOKENS
from workers.reading.segments import Segment
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.translation.prompts import Prompt

if TYPE_CHECKING:
    from workers.reading.training_data import TrainingData
    from workers.runtime.training_progress import CurvePoint


@dataclass(frozen=True, slots=True)
class CompressionContext:
    """What a method is given besides the parent model."""

    calibration: Sequence[Segment]
    """Pairs in the study's languages, for methods that look at activations."""
    prompt: Prompt
    """How the pairs are shown to the model."""
    device: torch.device
    """Where the arithmetic runs."""
    seed: int
    """For methods that draw at random."""
    device_map: str = ""
    """Where a model goes that runs whole, as `load_model` takes it; the device where empty."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    store: Path | None = None
    """Where calibration statistics and profiles are kept for later trials."""
    parent_key: str = ""
    """Names the parent's content in the store."""
    calibration_tokens: int = DEFAULT_CALIBRATION_TOKENS
    """How many tokens the statistics are taken over."""
    calibration_text: Sequence[str] = ()
    """Running text to take the statistics over instead of the pairs."""
    training: TrainingData | None = None
    """What steps that train read; None where the study names no training data."""
    teacher: Path | None = None
    """The uncompressed base model's folder, for steps that train."""
    teacher_key: str = ""
    """Names the teacher's content."""
    report: ProgressCallback = ignore_progress
    """Is told of the progress of a training."""
    processes: int = 1
    """GPUs that train one model together."""

    @property
    def whole_on(self) -> str:
        """Where a model goes that runs whole."""
        return self.device_map or str(self.device)


@dataclass(frozen=True, slots=True)
class Report:
    """What a method did. Two reports of the same work are equal, whatever its time."""

    targeted: int
    """Parameters of the weights that the method should have changed."""
    changed: int
    """Parameters of the weights whose stored form did change."""
    notes: tuple[str, ...] = ()
    """Facts for the trial's record, such as which layers were removed."""
    curve: tuple[CurvePoint, ...] = field(default=(), compare=False)
    """The points of a training, in order."""
    seconds: float = field(default=0.0, compare=False)
    """How long it trained; 0 for a step that does not train."""

    def with_notes(self, notes: Sequence[str]) -> Report:
        """The report with these notes after its own."""
        return replace(self, notes=(*self.notes, *notes))
