"""When a run writes its checkpoints, which of them it keeps, and where it goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from workers.training.loop.checkpoints import (
    LAST,
    TrainingCheckpoint,
    TrainingState,
    find_checkpoints,
    newest,
    remove,
    remove_old_drafts,
    superseded,
    usable,
    write,
)
from workers.training.loop.schedules import Schedule

# Writing checkpoints takes about this share of the time at most.
TIME_SHARE = 0.05
# Before one was written: from a GPU to a disk, bytes a second; and bytes that are written whatever they take.
WRITES_A_SECOND = 0.5e9
SMALL = 64 * 2**20


class CheckpointManager:
    """One run's hold on a folder of checkpoints. size: bytes of one. every_s: seconds between two; every_steps: steps
    instead, unless 0."""

    def __init__(
        self,
        folder: Path,
        schedule: Schedule,
        budget: int,
        size: int,
        clock: Callable[[], float],
        every_s: float,
        every_steps: int,
    ) -> None:
        self._folder = folder
        self._schedule = schedule
        self._budget = budget
        self._clock = clock
        self._every_s = every_s
        self._every_steps = every_steps
        remove_old_drafts(folder)
        self._mine = {one.folder for one in find_checkpoints(folder) if usable(one.standing, schedule, budget)}
        self._writing_s = 0.0 if size < SMALL else size / WRITES_A_SECOND
        self._began = self._saved_at = clock()
        self.saved_steps = -1

    def newest(self, steps: int | None = None) -> TrainingCheckpoint | None:
        """Where to go on from, or back to: of no more than `steps` where they are given."""
        known = newest(self._folder, self._schedule, self._budget, steps)
        if known is not None:
            self.saved_steps = known.standing.steps
        return known

    def is_due(self, steps: int) -> bool:
        """Whether a run that has come to so many steps should write one."""
        if self._every_steps:
            return steps - self.saved_steps >= self._every_steps
        return self._clock() - self._saved_at >= max(self._every_s, self._writing_s / TIME_SHARE)

    def is_worth_keeping(self) -> bool:
        """Whether the run so far took long enough, against what writing takes, for others to go on from it."""
        return bool(self._every_steps) or self._clock() - self._began >= self._writing_s / TIME_SHARE

    def save(self, standing: TrainingState, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write a checkpoint and remove those it supersedes. Raises DiskFull."""
        began = self._clock()
        self._mine.add(write(self._folder, standing, tensors).folder)
        last = 1 if standing.tokens >= self._budget else LAST
        for old in superseded(find_checkpoints(self._folder), self._mine, last):
            remove(old)
        self._saved_at = self._clock()
        self._writing_s = self._saved_at - began
        self.saved_steps = standing.steps
