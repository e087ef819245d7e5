"""What every compression method is given, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workers.prompts import Prompt
from workers.reading.segments import Segment


@dataclass(frozen=True, slots=True)
class CompressionContext:
    """calibration: pairs in the study's languages, for methods that look at activations. prompt: how they are shown to
    the model. device: where the arithmetic runs. seed: for methods that draw."""

    calibration: Sequence[Segment]
    prompt: Prompt
    device: torch.device
    seed: int
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a method did. targeted, changed: parameters of the weights it should have changed, and of those whose
    stored form did change. notes: facts for the trial's record, such as which layers went."""

    targeted: int
    changed: int
    notes: tuple[str, ...] = ()
