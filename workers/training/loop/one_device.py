"""Training on one device: from wherever the checkpoints are to the end of the budget.

Every optimizer step is a function of the step's number: its rows, its micro-batches and the seed of its dropout. So a
training that goes on from a checkpoint does what it would have done without the interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from search_spaces.methods.trainers import Trainer
from workers.runtime.training_progress import Progress, Trained
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.fused.modules import fused
from workers.training.loop.checkpoints import TrainingState
from workers.training.loop.compiling import compile_layers
from workers.training.loop.device_engine import DeviceEngine
from workers.training.loop.run import TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is trained, on what, and how."""

    learner: nn.Module
    """Called with a TrainingBatch, it returns the loss as `sum`, over the target tokens, a scalar on the device.
    Its `enable_checkpointing()`, if it has one, makes it compute activations again in the backward pass; its `speller`,
    if it has one, is called with each batch beforehand, in a thread."""
    pairs: TokenizedPairs
    step: Trainer
    """The method, with its budget and schedule."""
    seed: int
    device: torch.device
    checkpoints: Path
    """A folder that names everything but the budget."""
    held_out: Callable[[], float] | None
    """Scores translations of validation pairs (chrF) with the learner in eval mode."""
    report: Callable[[Progress], None]
    micro_tokens: int
    """Padded tokens a micro-batch."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass from the start."""
    compile: bool = False
    """Whether the learner's `decoder_layers` run compiled (`compiling.compile_layers`). Otherwise its `models` have
    small operations as kernels of a GPU (`fused.modules`)."""
    beginning: Callable[[], Mapping[str, nn.Parameter]] | None = None
    """Makes what the learner trains, by name, anew as it began; without it a checkpoint of the beginning is written."""
    packs: bool = False
    """Whether batches are made without padding, for a learner that packs."""
    checkpoint_seconds: float = 60.0
    """Between checkpoints."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, instead of seconds, unless 0."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, from anywhere."""


def train(task: Task) -> Trained:
    """Train the learner in place until the budget is read, and leave it in eval mode.

    It goes on from the newest whole checkpoint that a training of this budget comes by; on a CPU the result is bitwise
    that of an uninterrupted training. bfloat16 autocast on a GPU, float32 on a CPU. Raises TrainingDiverged,
    DiskFull, and the device's own error when one sequence takes more memory than there is. Torch's generators are left
    as they were.
    """
    models = getattr(task.learner, "models", (task.learner,))
    quick = compile_layers(task.learner.decoder_layers) if task.compile else fused(models)
    with torch.random.fork_rng([task.device] if task.device.type == "cuda" else []), quick:
        engine = DeviceEngine(task)
        run = TrainingRun(
            engine,
            step=task.step,
            budget=task.pairs.budget(task.step.tokens),
            state=TrainingState(micro_tokens=task.micro_tokens, recomputing=task.recompute),
            held_out=partial(engine.score, task.held_out) if task.held_out is not None else None,
            report=task.report,
            clock=task.clock,
        )
        try:
            return run.through()
        finally:
            engine.close()
