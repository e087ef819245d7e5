"""One run of a training: what changes from step to step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from workers.checkpoints.tensor_files import read_tensors
from workers.failures.training import diverged
from workers.runtime.training_progress import Trained
from workers.training.data.batches import fewest_tokens_of
from workers.training.data.prefetching import Prefetcher, prepare_step
from workers.training.loop.checkpoints import TrainingState
from workers.training.loop.gradients import TooLarge, add_gradients, may_shrink, smaller
from workers.training.loop.history import History
from workers.training.loop.keeping import CheckpointManager
from workers.training.loop.meter import Meter
from workers.training.loop.optimizer import adamw, apply_gradients, restore, tensors_of, trainable
from workers.training.loop.schedules import rate_share

if TYPE_CHECKING:
    from workers.training.loop.one_device import Task

# A GPU is waited for, and its losses looked at, about once in so many seconds.
LOOK_SECONDS = 1.0


class TrainingRun:
    """A task under way: where it stands, and what it has at hand."""

    def __init__(self, task: Task) -> None:
        step = task.step
        self.task = task
        self.budget = task.pairs.budget(step.tokens)
        self.parameters = trainable(task.learner)
        self.fewest = fewest_tokens_of(task.learner, task.device)
        self.optimizer = adamw(self.parameters, step.weight_decay)
        self.keeper = CheckpointManager(
            task.checkpoints, step.schedule, self.budget, task.clock, task.checkpoint_seconds, task.checkpoint_steps
        )
        self.standing = TrainingState(micro_tokens=task.micro_tokens, recomputing=task.recompute)
        self.meter = Meter(task.device, task.clock)
        self.history = History(task.step.name, self.budget, task.report, task.clock)
        self.feed: Prefetcher | None = None
        self.since = 0

    def through(self) -> Trained:
        """Train to the budget's end, and say what was done."""
        self._begin()
        while not self._is_done():
            if self._decay_is_next():
                self._look()
                if self._decay_is_next():
                    self._save()
                continue
            self._step()
            if self._look_is_due():
                self._look()
        self._finish()
        curve, standing = self.history.curve, self.standing
        before, after = curve[0].chrf, curve[-1].chrf
        return Trained(standing.tokens, standing.steps, curve, standing.notes, before, after, self.since)

    def close(self) -> None:
        """Leave nothing running, and no gradients."""
        if self.feed is not None:
            self.feed.close()
        self.optimizer.zero_grad()
        self.task.learner.eval()

    def _begin(self) -> None:
        known = self._load_newest()
        if known:
            self.since = self.standing.tokens
            micro_tokens = min(self.task.micro_tokens, self.standing.micro_tokens)
            recomputing = self.task.recompute or self.standing.recomputing
            self.standing = replace(self.standing, micro_tokens=micro_tokens, recomputing=recomputing)
        if self.standing.recomputing:
            self.task.learner.enable_checkpointing()
        if not known:
            self.history.mark(0, self._held_out())
            self._save()
        self.task.learner.train()
        self._feed_from_here()
        self.meter.restart()

    def _is_done(self) -> bool:
        return self.standing.tokens >= self.budget

    def _decay_is_next(self) -> bool:
        """Whether the next step is the first whose rate depends on the budget, and no checkpoint was written here."""
        now = self.standing
        return now.decay_is_next(self.task.step.schedule, self.budget) and self.keeper.saved_steps != now.steps

    def _step(self) -> None:
        """Take the next optimizer step, or make the micro-batches smaller where memory does not suffice."""
        assert self.feed is not None
        step, now, work = self.task.step, self.standing, self.feed.next()
        torch.manual_seed(_seed(self.task.seed, now.steps))
        loss = add_gradients(self.task.learner, work, self.task.device, partial(may_shrink, now, self.task.learner))
        if isinstance(loss, TooLarge):
            self._shrink(loss)
            return
        share = rate_share(step.schedule, step.warm_up, now.steps, now.tokens, self.budget)
        norm = apply_gradients(self.optimizer, step.rate * now.rate_factor * share)
        self.meter.add(loss, norm, work.tokens, work.targets)
        self.standing = now.advanced(step.schedule, self.budget, work.tokens)

    def _look_is_due(self) -> bool:
        if self.task.device.type == "cpu" or self._is_done() or self.meter.age >= LOOK_SECONDS:
            return True
        return self.task.checkpoint_steps > 0 and self.keeper.is_due(self.standing.steps)

    def _look(self) -> None:
        """See what the last steps came to: go back if it is not finite, else tell of it and keep it as is due."""
        if self.meter.is_empty:
            return
        window, finite = self.meter.read()
        if not finite:
            self._go_back()
            return
        tokens = self.standing.tokens
        self.history.add(window, tokens)
        if self._is_done():
            return
        if self.task.held_out is not None and self.history.evaluation_is_due(tokens):
            self.history.mark(tokens, self._held_out())
        elif self.history.point_is_due(tokens):
            self.history.mark(tokens, None)
        if self.keeper.is_due(self.standing.steps):
            self._save()
        self.meter.restart()

    def _finish(self) -> None:
        """Score and keep the end, unless it was kept before."""
        last = self.history.curve[-1]
        unscored = self.task.held_out is not None and last.chrf is None
        if last.tokens < self.standing.tokens or unscored:
            self.history.mark(self.standing.tokens, self._held_out())
        if self.keeper.saved_steps != self.standing.steps:
            self._save()

    def _held_out(self) -> float | None:
        if self.task.held_out is None:
            return None
        began = self.task.clock()
        self.task.learner.eval()
        with torch.no_grad():
            score = self.task.held_out()
        self.task.learner.train()
        self.history.evaluation_s = self.task.clock() - began
        return score

    def _save(self) -> None:
        self.standing = replace(self.standing, curve=self.history.curve)
        self.keeper.save(self.standing, tensors_of(self.parameters, self.optimizer))
        self.meter.restart()

    def _load_newest(self, steps: int | None = None) -> bool:
        """Take up the newest checkpoint, of no more than `steps` where they are given; False when there is none."""
        while (checkpoint := self.keeper.newest(steps)) is not None:
            try:
                restore(self.parameters, self.optimizer, read_tensors(checkpoint.tensors, self.task.device))
            except FileNotFoundError:
                # Another worker at this training has newer ones, and has just removed this one.
                continue
            self.standing = checkpoint.standing
            self.history.begin(checkpoint.standing.curve)
            return True
        return False

    def _go_back(self) -> None:
        """To the last checkpoint, with half the rate; a second time raises TrainingDiverged."""
        bad, peak = self.standing, self.task.step.rate * self.standing.rate_factor
        if bad.rate_factor < 1.0:
            raise diverged(bad.steps, bad.tokens, peak)
        if not self._load_newest(bad.steps):
            raise FileNotFoundError(f"the checkpoints in {self.task.checkpoints} are gone; start the training again")
        note = (
            f"the loss or its gradient was not finite by step {bad.steps}: went back to step {self.standing.steps} "
            f"with half the rate, {peak / 2:g} at its peak"
        )
        self.standing = replace(
            self.standing,
            rate_factor=0.5,
            micro_tokens=bad.micro_tokens,
            recomputing=bad.recomputing,
            notes=(*bad.notes, note),
        )
        self._feed_from_here()
        self.meter.restart()

    def _shrink(self, over: TooLarge) -> None:
        """Let the step that memory did not suffice for be taken anew."""
        self.optimizer.zero_grad()
        if self.task.device.type == "cuda":
            torch.cuda.empty_cache()
        self.standing = smaller(self.standing, self.task.learner, over)
        self._feed_from_here()

    def _feed_from_here(self) -> None:
        if self.feed is not None:
            self.feed.close()
        make = partial(
            prepare_step,
            self.task.pairs,
            batch=self.task.step.batch,
            seed=self.task.seed,
            micro_tokens=self.standing.micro_tokens,
            fewest=self.fewest,
            pinned=self.task.device.type == "cuda",
        )
        self.feed = Prefetcher(make, self.standing.steps)


def _seed(seed: int, step: int) -> int:
    """Of torch's generators at a step, such that no two steps share one."""
    return (seed * 2**32 + step) % 2**63
