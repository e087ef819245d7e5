"""What a training computes with, as the loop sees it: one device, or one process's part of a sharded training."""

from __future__ import annotations

from typing import Protocol

from workers.runtime.training_progress import StepWindow
from workers.training.loop.checkpoints import TrainingState


class TrainingEngine(Protocol):
    """Weights, optimizer and data, and the checkpoints of them. Where processes train together, each has an engine, and
    all of them answer alike."""

    keeps_beginning: bool
    """Whether a checkpoint is written before the first step; else the engine can be made anew as it began."""

    @property
    def saved_steps(self) -> int:
        """The steps of the checkpoint that was last written or taken up; -1 before there was one."""
        ...

    def load(self, steps: int | None) -> TrainingState | None:
        """Take up the newest checkpoint, of no more than so many steps where they are given. None when there is none;
        weights are then as they began. Raises FileNotFoundError where one was written and is gone."""
        ...

    def start(self, state: TrainingState) -> None:
        """Prepare the step after this state."""
        ...

    def step(self, state: TrainingState, rate: float) -> int | TrainingState:
        """Take the step after this state: how many real tokens it read. Where memory did not suffice: the state from
        which it is to be taken anew. rate: AdamW's learning rate of this step."""
        ...

    def look_is_due(self, steps: int) -> bool:
        """Whether to wait for what the steps since the last look came to. steps: taken so far."""
        ...

    def read(self) -> tuple[StepWindow, bool] | None:
        """What the steps since the last look came to, and whether their losses and gradients were finite; None where
        no step was taken since."""
        ...

    def checkpoint_is_due(self, steps: int) -> bool:
        """Whether to write a checkpoint after so many steps."""
        ...

    def is_worth_keeping(self) -> bool:
        """Whether to write a checkpoint for trainings of other budgets, and one of the end."""
        ...

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, and remove those that it supersedes. Raises DiskFull."""
        ...


def step_seed(seed: int, step: int, rank: int = 0, processes: int = 1) -> int:
    """Of torch's generators at a step in one of the processes, such that no two steps or processes share one."""
    return ((seed * 2**32 + step) * processes + rank) % 2**63
