"""How far a loss against a teacher's cache lies from the loss against the teacher itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from search_spaces.methods.trainers import Trainer
from workers.training.data.batches import TrainingBatch
from workers.training.loop.learner import Learner
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher


@dataclass(frozen=True, slots=True)
class CacheBias:
    """Mean divergences over target tokens, in nats, of the same student on the same batches."""

    live: float
    cached: float
    tokens: int

    @property
    def difference(self) -> float:
        """cached − live: below 0 but for rounding, as merged outcomes are never further apart."""
        return self.cached - self.live


def cache_bias(
    model: Any, step: Trainer, live: LiveTeacher, cached: CachedTeacher, batches: Iterable[TrainingBatch]
) -> CacheBias:
    """The step's divergence of a student (in the mode it is in) from a live teacher, and from its cache.

    batches: on the student's device. Without cross-entropy or hidden states, which a cache does not change. Raises
    ValueError when there is no target token or the loss is no divergence.
    """
    alone = replace(step, reference_share=0.0, hidden=0.0)
    if not alone.has_divergence:
        raise ValueError(f"the loss {step.loss} needs no teacher, so a cache of one changes nothing")
    learners = [Learner(model, alone, teacher) for teacher in (live, cached)]
    sums, tokens = [0.0, 0.0], 0
    with torch.no_grad():
        for batch in batches:
            losses = [learner(batch) for learner in learners]
            sums = [total + float(loss.sum) for total, loss in zip(sums, losses, strict=True)]
            tokens += losses[0].tokens
    if not tokens:
        raise ValueError("there is no target token to measure a cache's bias on")
    return CacheBias(sums[0] / tokens, sums[1] / tokens, tokens)
