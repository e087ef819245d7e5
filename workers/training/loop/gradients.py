"""The gradients of one optimizer step, over as many micro-batches as memory asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from workers.failures.table import is_out_of_memory
from workers.training.data.batches import TrainingBatch, halve_micro_tokens
from workers.training.data.prefetching import StepBatches
from workers.training.loop.checkpoints import TrainingState


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A micro-batch that memory did not suffice for. tokens: its size with padding."""

    tokens: int


def add_gradients(
    forward: Callable[[TrainingBatch], Any],
    work: StepBatches,
    device: torch.device,
    may_shrink: Callable[[TrainingBatch], bool],
) -> torch.Tensor | TooLarge:
    """Add up the gradients of the mean loss over the step's target tokens: the same in however many micro-batches.

    forward: answers with `sum`, the loss summed over a batch's target tokens. may_shrink: whether a batch that memory
    did not suffice for can be made to take less; if not, the device's error is raised. Returns the loss summed over
    the step, () on the device, or what was too large, with gradients half made.
    """
    total = torch.zeros((), device=device)
    for batch in work.batches:
        try:
            with _autocast(device):
                loss = forward(batch.to(device)).sum
            (loss / max(work.targets, 1)).backward()
            total += loss.detach()
        except Exception as error:
            if not (is_out_of_memory(error) and may_shrink(batch)):
                raise
            return TooLarge(batch.size)
    return total


def may_shrink(standing: TrainingState, learner: nn.Module, batch: TrainingBatch) -> bool:
    """Whether a batch can be made to take less memory: it has several sequences, or activations may be recomputed."""
    return len(batch.rows) > 1 or _may_recompute(standing, learner)


def smaller(standing: TrainingState, learner: nn.Module, over: TooLarge) -> TrainingState:
    """The standing from which the step is to be taken anew, and says so in its notes: the learner computes activations
    again in the backward pass or, where it does already or can't, micro-batches are halved until they are smaller."""
    said = f"out of memory at step {standing.steps} with a micro-batch of {over.tokens} tokens"
    if _may_recompute(standing, learner):
        learner.enable_checkpointing()
        note = f"{said}: activations are computed again in the backward pass"
        return replace(standing, recomputing=True, notes=(*standing.notes, note))
    fewer = halve_micro_tokens(standing.micro_tokens, over.tokens)
    note = f"{said}: micro-batches of {fewer} tokens, the steps as they were"
    return replace(standing, micro_tokens=fewer, notes=(*standing.notes, note))


def _may_recompute(standing: TrainingState, learner: nn.Module) -> bool:
    return hasattr(learner, "enable_checkpointing") and not standing.recomputing


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
