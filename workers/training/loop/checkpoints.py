"""A training's checkpoints: whole or not there, and which of them a budget may go on from.

A folder of checkpoints is one training's at any budget: while no step's rate has depended on the budget, the trainings
of all budgets are one and the same. Several workers may be at one training at once: they put the same things there.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workers.checkpoints.tensor_files import bytes_of, write_tensors
from workers.failures.training import disk_full, is_full_disk
from workers.runtime.atomic_files import DRAFT, sync
from workers.runtime.training_progress import CurvePoint
from workers.training.loop.schedules import Schedule, decay_begins

STANDING = "standing.json"
TENSORS = "state.safetensors"
# A draft that nobody has touched for so long is a killed worker's.
DRAFT_SECONDS = 3600
# So many stay of a run under way: one more than is needed, should that be damaged.
LAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Where a training stands after a whole number of optimizer steps."""

    steps: int = 0
    tokens: int = 0
    """Real tokens read."""
    before_last: int = 0
    """Real tokens read before the last step."""
    decaying: int = 0
    """The budget whose decay has begun, in tokens; 0 before any has."""
    rate_factor: float = 1.0
    """0.5 after a loss that was not finite."""
    micro_tokens: int
    """Padded tokens a micro-batch."""
    recomputing: bool = False
    """Whether activations are computed again in the backward pass."""
    curve: tuple[CurvePoint, ...] = ()
    notes: tuple[str, ...] = ()
    """Facts for the trial's record, such as a smaller micro-batch."""

    def decay_is_next(self, schedule: Schedule, budget: int) -> bool:
        """Whether the next step's rate is the first that depends on the budget."""
        return not self.decaying and self.tokens > decay_begins(schedule, budget)

    def advanced(self, schedule: Schedule, budget: int, tokens: int) -> TrainingState:
        """Where a training of that budget stands after one more step, which read so many real tokens."""
        return replace(
            self,
            steps=self.steps + 1,
            tokens=self.tokens + tokens,
            before_last=self.tokens,
            decaying=budget if self.decay_is_next(schedule, budget) else self.decaying,
        )


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """A whole checkpoint on disk."""

    folder: Path
    standing: TrainingState

    @property
    def tensors(self) -> Path:
        return self.folder / TENSORS


def usable(standing: TrainingState, schedule: Schedule, budget: int) -> bool:
    """Whether a training of that budget comes by this standing: every step so far was within the budget, and had the
    rate that this budget gives it."""
    if standing.decaying:
        return standing.decaying == budget
    last = standing.before_last
    return not standing.steps or (last < budget and last <= decay_begins(schedule, budget))


def find_checkpoints(folder: Path) -> list[TrainingCheckpoint]:
    """The whole checkpoints in the folder, fewest steps first. Others are passed over: their files are not those that
    their JSON names, or the JSON is cut short."""
    whole = [checkpoint for path in folder.glob("step-*") if (checkpoint := _read(path)) is not None]
    return sorted(whole, key=lambda checkpoint: (checkpoint.standing.steps, checkpoint.standing.decaying))


def newest(folder: Path, schedule: Schedule, budget: int, steps: int | None = None) -> TrainingCheckpoint | None:
    """The checkpoint of most steps that a training of the budget may go on from; of no more than `steps`, if given."""
    return newest_of(find_checkpoints(folder), schedule, budget, steps)


def newest_of(
    checkpoints: Sequence[TrainingCheckpoint], schedule: Schedule, budget: int, steps: int | None
) -> TrainingCheckpoint | None:
    """Of checkpoints in the order of `find_checkpoints`, the last that a training of the budget may continue from; of
    no more than `steps`, if given."""
    fitting = [
        checkpoint
        for checkpoint in checkpoints
        if usable(checkpoint.standing, schedule, budget) and (steps is None or checkpoint.standing.steps <= steps)
    ]
    return fitting[-1] if fitting else None


def write(folder: Path, standing: TrainingState, tensors: Mapping[str, torch.Tensor]) -> TrainingCheckpoint:
    """Put a checkpoint on the disk under a draft name, then rename it.

    Raises DiskFull, with what was written of it removed and the earlier ones as they were.
    """
    needed = bytes_of(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{DRAFT}{uuid.uuid4().hex[:12]}"
    target = folder / file_name(standing)
    try:
        draft.mkdir()
        write_tensors(draft / TENSORS, tensors)
        _write_standing(draft, standing)
        _put(draft, target)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if is_full_disk(error):
            raise disk_full(folder, needed, error) from error
        raise
    return TrainingCheckpoint(target, standing)


def superseded(
    checkpoints: Sequence[TrainingCheckpoint], mine: Set[Path], last: int = LAST
) -> list[TrainingCheckpoint]:
    """Which may go, of checkpoints in the order of `find_checkpoints`: all in `mine` but the `last` and, for larger
    budgets, the last before a decay; of the others, those at the end of their own budget's decay."""
    own = [checkpoint for checkpoint in checkpoints if checkpoint.folder in mine]
    steady = [checkpoint for checkpoint in own if not checkpoint.standing.decaying]
    kept = {checkpoint.folder for checkpoint in own[-last:] + steady[-1:]}
    return [
        checkpoint
        for checkpoint in checkpoints
        if checkpoint.folder not in kept and (checkpoint.folder in mine or _has_ended(checkpoint.standing))
    ]


def remove(checkpoint: TrainingCheckpoint) -> None:
    """Remove a checkpoint; what is left of it when that is interrupted is none."""
    (checkpoint.folder / STANDING).unlink(missing_ok=True)
    shutil.rmtree(checkpoint.folder, ignore_errors=True)


def remove_old_drafts(folder: Path, now: float | None = None) -> None:
    """Remove what killed workers left half written. now: in seconds of the epoch."""
    now = time.time() if now is None else now
    for draft in folder.glob(f"{DRAFT}*"):
        # One that is renamed meanwhile is somebody's.
        with suppress(FileNotFoundError):
            if now - max(path.stat().st_mtime for path in (draft, *draft.iterdir())) > DRAFT_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def _has_ended(standing: TrainingState) -> bool:
    return bool(standing.decaying) and standing.tokens >= standing.decaying


def file_name(standing: TrainingState) -> str:
    """What a checkpoint's folder is called."""
    return f"step-{standing.steps:08d}" + (f"-of-{standing.decaying}" if standing.decaying else "")


def _read(folder: Path) -> TrainingCheckpoint | None:
    try:
        record = json.loads((folder / STANDING).read_text(encoding="utf-8"))
        size = (folder / TENSORS).stat().st_size
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    if size != record["bytes"]:
        return None
    return TrainingCheckpoint(folder, state_of(record["standing"]))


def state_of(values: Mapping[str, Any]) -> TrainingState:
    """The state that a checkpoint's JSON spells."""
    curve = tuple(CurvePoint(**point) for point in values["curve"])
    return TrainingState(**{**values, "curve": curve, "notes": tuple(values["notes"])})


def _write_standing(draft: Path, standing: TrainingState) -> None:
    record = {"bytes": (draft / TENSORS).stat().st_size, "standing": asdict(standing)}
    (draft / STANDING).write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    sync(draft / STANDING)


def _put(draft: Path, target: Path) -> None:
    """Rename the draft, in the place of an earlier checkpoint of the same step where there is one.

    Another worker may be at the same training, and put one there between the two looks.
    """
    sync(draft)
    while not _renamed(draft, target):
        aside = target.with_name(f"{DRAFT}{uuid.uuid4().hex[:12]}")
        with suppress(FileNotFoundError):
            target.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    sync(target.parent)


def _renamed(draft: Path, target: Path) -> bool:
    """Whether it could be; False where the target is taken."""
    try:
        draft.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
