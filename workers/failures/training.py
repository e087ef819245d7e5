"""What can go wrong while a step trains, and what each fault says (no torch)."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

FULL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class TrainingDiverged(RuntimeError):
    """The loss or its gradient stopped being finite, and did so again at half the rate."""


class DiskFull(OSError):
    """There is no room for a checkpoint; the earlier ones are whole."""


def diverged(steps: int, tokens: int, rate: float) -> TrainingDiverged:
    """The error of a loss that is not finite for the second time. rate: the peak learning rate, halved already."""
    return TrainingDiverged(
        f"the loss or its gradient was not finite for the second time, at step {steps} after {tokens} tokens and at a "
        f"peak rate of {rate:g}, half of the step's rate; a smaller rate or a longer warm_up may help"
    )


def is_full_disk(error: OSError) -> bool:
    """Whether the file system, or the quota on it, has no room left."""
    return error.errno in FULL_DISK_ERRNOS


def disk_full(folder: Path, needed: int, error: OSError) -> DiskFull:
    """The error for a checkpoint that found no room. folder: where it was to go; needed: its bytes."""
    free = shutil.disk_usage(folder).free
    return DiskFull(
        error.errno,
        f"no room for a checkpoint of {needed} bytes in {folder}, where {free} are free; the checkpoint before it is "
        "whole: free some space and start again to resume from it, or put the artefact store elsewhere with --store",
    )
