"""Training of all weights: dense ones as they are, packed ones through their rounding, sparse ones but their zeros."""

from __future__ import annotations

from pathlib import Path

from search_spaces.methods.trainers import Finetune
from workers.plan.compression_context import CompressionContext, Report


def compress(parent: Path, out: Path, step: Finetune, context: CompressionContext) -> Report:
    """Write the trained parent to `out`, in its own stored form and of the same bytes.

    Raises StudyError where there is nothing to train on, CandidateError for 8-bit and bitsandbytes' weights.
    """
    from workers.training.steps import train_step, training_pairs

    return train_step(parent, out, step, training_pairs(parent, step, context), context)
