"""Recovery by a few trained weights: an adapter beside frozen ones, kept apart or merged, or scales of packed ones."""

from __future__ import annotations

from pathlib import Path

from search_spaces.methods.trainers import Recover
from workers.plan.compression_context import CompressionContext, Report


def compress(parent: Path, out: Path, step: Recover, context: CompressionContext) -> Report:
    """Write the recovered parent to `out`: in its own stored form, with an adapter in `adapter/` unless it is merged.

    Raises StudyError where there is nothing to train on, CandidateError for a parent whose weights take none of it.
    """
    from workers.training.steps import train_step, training_pairs

    return train_step(parent, out, step, training_pairs(parent, step, context), context)
