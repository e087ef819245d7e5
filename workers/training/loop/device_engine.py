"""The engine of a training on one device: a learner, AdamW, batches made ahead, and checkpoints of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from workers.checkpoints.tensor_files import read_tensors
from workers.runtime.training_progress import StepWindow
from workers.training.data.batches import fewest_tokens_of
from workers.training.data.prefetching import Prefetcher, prepare_step
from workers.training.loop.checkpoints import TrainingState
from workers.training.loop.engine import step_seed
from workers.training.loop.gradients import TooLarge, add_gradients, may_shrink, smaller
from workers.training.loop.keeping import CheckpointManager
from workers.training.loop.meter import Meter
from workers.training.loop.optimizer import adamw, apply_gradients, restore, tensors_of, trainable, weights_of

if TYPE_CHECKING:
    from workers.training.loop.one_device import Task

# A GPU is waited for, and its losses looked at, about once in so many seconds.
LOOK_SECONDS = 1.0


class DeviceEngine:
    """The task's learner on its device (`engine.TrainingEngine`)."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.keeps_beginning = task.beginning is None
        self.parameters = trainable(task.learner)
        self.fewest = fewest_tokens_of(task.learner, task.device)
        self.optimizer = adamw(self.parameters, task.step.weight_decay)
        self.keeper = CheckpointManager(
            task.checkpoints,
            task.step.schedule,
            task.pairs.budget(task.step.tokens),
            # Weights and both of AdamW's moments.
            size=3 * sum(parameter.nbytes for parameter in self.parameters.values()),
            clock=task.clock,
            every_s=task.checkpoint_seconds,
            every_steps=task.checkpoint_steps,
        )
        self.meter = Meter(task.device, task.clock)
        self.feed: Prefetcher | None = None

    @property
    def saved_steps(self) -> int:
        return self.keeper.saved_steps

    def load(self, steps: int | None) -> TrainingState | None:
        while (checkpoint := self.keeper.newest(steps)) is not None:
            try:
                restore(self.parameters, self.optimizer, read_tensors(checkpoint.tensors, self.task.device))
            except FileNotFoundError:
                # Another worker at this training has newer ones, and has just removed this one.
                continue
            known = checkpoint.standing
            micro_tokens = min(self.task.micro_tokens, known.micro_tokens)
            return replace(known, micro_tokens=micro_tokens, recomputing=self.task.recompute or known.recomputing)
        if self.feed is not None and self.task.beginning is not None:
            restore(self.parameters, self.optimizer, weights_of(self.task.beginning()))
        elif self.feed is not None:
            raise FileNotFoundError(f"the checkpoints in {self.task.checkpoints} are gone; start the training again")
        return None

    def start(self, state: TrainingState) -> None:
        if state.recomputing:
            self.task.learner.enable_checkpointing()
        self.task.learner.train()
        self._feed_from(state)
        self.meter.restart()

    def step(self, state: TrainingState, rate: float) -> int | TrainingState:
        assert self.feed is not None
        work, learner, device = self.feed.next(), self.task.learner, self.task.device
        torch.manual_seed(step_seed(self.task.seed, state.steps))
        loss = add_gradients(learner, work, device, partial(may_shrink, state, learner))
        if isinstance(loss, TooLarge):
            self.optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            fewer = smaller(state, learner, loss)
            self._feed_from(fewer)
            return fewer
        norm = apply_gradients(self.optimizer, rate)
        self.meter.add(loss, norm, work.tokens, work.targets)
        return work.tokens

    def look_is_due(self, steps: int) -> bool:
        if self.task.device.type == "cpu" or self.meter.age >= LOOK_SECONDS:
            return True
        return self.task.checkpoint_steps > 0 and self.keeper.is_due(steps)

    def read(self) -> tuple[StepWindow, bool] | None:
        return None if self.meter.is_empty else self.meter.read()

    def checkpoint_is_due(self, steps: int) -> bool:
        return self.keeper.is_due(steps)

    def is_worth_keeping(self) -> bool:
        return self.keeper.is_worth_keeping()

    def save(self, state: TrainingState) -> None:
        self.keeper.save(state, tensors_of(self.parameters, self.optimizer))
        self.meter.restart()

    def score(self, held_out: Callable[[], float]) -> float:
        """What `held_out` says of the learner in eval mode."""
        self.task.learner.eval()
        with torch.no_grad():
            score = held_out()
        self.task.learner.train()
        self.meter.restart()
        return score

    def close(self) -> None:
        """Leave nothing running, and no gradients."""
        if self.feed is not None:
            self.feed.close()
        self.optimizer.zero_grad()
        self.task.learner.eval()

    def _feed_from(self, state: TrainingState) -> None:
        """Batches from the next step on, in micro-batches of the state's size."""
        if self.feed is not None:
            self.feed.close()
        make = partial(
            prepare_step,
            self.task.pairs,
            batch=self.task.step.batch,
            seed=self.task.seed,
            micro_tokens=state.micro_tokens,
            fewest=self.fewest,
            packs=self.task.packs,
            speller=getattr(self.task.learner, "speller", None),
            pinned=self.task.device.type == "cuda",
        )
        self.feed = Prefetcher(make, state.steps)
