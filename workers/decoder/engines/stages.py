"""A step of a model that lies on several devices, cut into what each does between two moves of the hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workers.decoder.blueprint import Run


@dataclass(frozen=True, slots=True)
class Stage:
    """What one device does of a step without waiting for another."""

    device: torch.device
    run: Run | None
    """The layers it takes the hidden states through; None where it has none then."""
    begins: bool
    """Whether it looks the tokens up."""
    ends: bool
    """Whether it chooses the next ones."""
    counts: bool
    """Whether it is the device's last of the step, and moves its sequences on by a token."""


def stages_of(runs: Sequence[Run], home: torch.device) -> tuple[Stage, ...]:
    """The stages in order, one where all lies on one device. home: where embeddings, the last norm and the head lie, so
    that tokens are chosen where they are looked up."""
    parts: list[tuple[torch.device, Run | None]] = [(run.device, run) for run in runs]
    if parts[0][0] != home:
        parts.insert(0, (home, None))
    if parts[-1][0] != home:
        parts.append((home, None))
    devices = [device for device, _ in parts]
    return tuple(
        Stage(
            device, run, begins=number == 0, ends=number == len(parts) - 1, counts=device not in devices[number + 1 :]
        )
        for number, (device, run) in enumerate(parts)
    )
