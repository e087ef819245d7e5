"""What every compression method is given, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.calibration.sequences import DEFAULT_TOKENS
from workers.prompts import Prompt
from workers.reading.segments import Segment


@dataclass(frozen=True, slots=True)
class CompressionContext:
    """calibration: pairs in the study's languages, for methods that look at activations. prompt: how they are shown to
    the model. device: where the arithmetic runs. seed: for methods that draw. store: where calibration statistics and
    profiles are kept for later trials; parent_key: names the parent's content there. calibration_tokens: how many the
    statistics are taken over. calibration_text: running text to take them over instead of the pairs."""

    calibration: Sequence[Segment]
    prompt: Prompt
    device: torch.device
    seed: int
    trust_remote_code: bool = False
    store: Path | None = None
    parent_key: str = ""
    calibration_tokens: int = DEFAULT_TOKENS
    calibration_text: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a method did. targeted, changed: parameters of the weights it should have changed, and of those whose
    stored form did change. notes: facts for the trial's record, such as which layers went."""

    targeted: int
    changed: int
    notes: tuple[str, ...] = ()
