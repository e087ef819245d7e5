"""The engine of one process's part of a sharded training, around DeepSpeed's. It knows nothing of Ray.

The step's rows, rates and seeds are those of the training on one device, and every process works out all of them, so
what processes must agree on they know without asking. The loss and the few things that only one can tell (the clock)
are added up once a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Trainer
from workers.failures.table import is_out_of_memory
from workers.runtime.callbacks import ignore_progress
from workers.runtime.training_progress import Progress, StepWindow, Trained
from workers.training.data.batches import TrainingBatch, fewest_tokens_of, micro_rows, padded_batch
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.checkpoints import TrainingState
from workers.training.loop.engine import step_seed
from workers.training.loop.learner import Learner
from workers.training.loop.run import TrainingRun
from workers.training.losses.readout import Readout, chunks
from workers.training.zero import saving
from workers.training.zero.configs import Stage
from workers.training.zero.deepspeed_engine import wrap_learner
from workers.training.zero.sharing import MicroBatchTooLarge, Share, share_of
from workers.training.zero.weights import gather_trained, shapes_of, write_trained

# Of the logits of a micro-batch at stage 3: at most 33,500 target tokens of a vocabulary of 32,000 in bfloat16.
ONE_PIECE_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTask:
    """What is trained, on what, and how; the same in every process but for the device."""

    build: Callable[[torch.device], Learner]
    """Makes the learner; called again after a loss that was not finite."""
    pairs: TokenizedPairs
    step: Trainer
    """The method, with its budget and schedule."""
    seed: int
    stage: Stage
    """Of ZeRO."""
    device: torch.device
    """Where this process's learner computes."""
    checkpoints: Path
    """A folder that names everything but the budget."""
    out: Path
    """Where the trained tensors go."""
    report: Callable[[Progress], None]
    """Called in the first process."""
    micro_tokens: int
    """Padded tokens a micro-batch."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass."""
    notes: tuple[str, ...] = ()
    """What the trial's record says before the training's own notes."""
    checkpoint_seconds: float = 600.0
    """Between checkpoints."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, instead of seconds, unless 0."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, from anywhere."""


def train_rank(task: RankTask) -> Trained:
    """Train with the other processes of the default group until the budget is read; the first one then writes the
    trained tensors (`weights.load_trained`).

    It continues from the newest checkpoint of this stage and number of processes. bfloat16 on a GPU, float32 on a CPU.
    Raises TrainingDiverged and DiskFull in all processes, and MicroBatchTooLarge or a device's own error in the one
    where it happens, which leaves the others waiting: whoever started them ends them.
    """
    engine = ShardedEngine(task)
    run = TrainingRun(
        engine,
        step=task.step,
        budget=task.pairs.budget(task.step.tokens),
        state=TrainingState(micro_tokens=task.micro_tokens, recomputing=task.recompute, notes=task.notes),
        held_out=None,
        report=task.report if engine.first else ignore_progress,
        clock=task.clock,
    )
    trained = run.through()
    engine.write()
    return trained


class ShardedEngine:
    """One process's part of the weights, the optimizer and the rows (`loop.engine.TrainingEngine`)."""

    # Every process builds the learner, so the beginning can be had again without a checkpoint of it.
    keeps_beginning = False

    def __init__(self, task: RankTask) -> None:
        self.task = task
        self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()
        self.first = self.rank == 0
        self.budget = task.pairs.budget(task.step.tokens)
        self.folder = saving.folder_of(task.checkpoints, task.stage, self.processes)
        self.saved_steps = -1
        self.saved_at = task.clock()
        self.engine: Any = None
        self.is_due = False
        self.seen: tuple[StepWindow, bool] | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="training-share")
        self.next_share: Future[Share] | None = None

    def load(self, steps: int | None) -> TrainingState | None:
        """The engine is made anew each time: at stage 3 it can't load what it has just saved."""
        self._destroy()
        self._build()
        checkpoint = saving.newest(self.folder, self.task.step.schedule, self.budget, steps)
        if checkpoint is None:
            self.saved_steps = -1
            return None
        saving.load(self.engine, checkpoint)
        known = checkpoint.standing
        self.saved_steps = known.steps
        notes = known.notes + tuple(note for note in self.task.notes if note not in known.notes)
        return replace(known, micro_tokens=self.task.micro_tokens, recomputing=self.task.recompute, notes=notes)

    def start(self, state: TrainingState) -> None:
        self.next_share = self.thread.submit(self._share, state.steps)

    def step(self, state: TrainingState, rate: float) -> int:
        """A loss or gradient that is not finite spoils the weights, which are then loaded again."""
        assert self.next_share is not None
        started = self.task.clock()
        share = self.next_share.result()
        self.next_share = self.thread.submit(self._share, state.steps + 1)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(step_seed(self.task.seed, state.steps, self.rank, self.processes))
        loss, self.is_due = self._backward(share, state.steps)
        finite = math.isfinite(loss) and math.isfinite(float(self.engine.get_global_grad_norm()))
        self.seen = StepWindow(share.tokens, share.target_tokens, loss, self.task.clock() - started), finite
        return share.tokens

    def look_is_due(self, steps: int) -> bool:
        """Every step's loss is added up over the processes anyway."""
        return True

    def read(self) -> tuple[StepWindow, bool] | None:
        seen, self.seen = self.seen, None
        return seen

    def is_worth_keeping(self) -> bool:
        """Always: processes with clocks of their own would not agree."""
        return True

    def checkpoint_is_due(self, steps: int) -> bool:
        """What the first process said, by its clock, in the last step."""
        return self.is_due

    def save(self, state: TrainingState) -> None:
        saving.save(self.engine, self.folder, state)
        if self.first:
            saving.remove_superseded(self.folder, self.task.step.schedule, self.budget)
        self.saved_steps, self.saved_at = state.steps, self.task.clock()

    def write(self) -> None:
        """The first process puts the trained tensors where the task says, and all give up their part."""
        tensors = gather_trained(self.engine, self.shapes, keep=self.first)
        if self.first:
            write_trained(self.task.out, tensors)
        distributed.barrier()
        self._destroy()
        self.thread.shutdown()

    def _build(self) -> None:
        learner = self.task.build(self.task.device)
        learner.train()
        if self.task.recompute:
            learner.enable_checkpointing()
        self.shapes = shapes_of(learner)
        if self.task.stage == 3:
            learner.chunk_bytes = ONE_PIECE_BYTES
        self.most_targets = self._most_targets(learner)
        self.speller = learner.speller
        # Before stage 3 takes the weights apart.
        self.fewest = fewest_tokens_of(learner, self.task.device)
        self.engine = wrap_learner(learner, self.task.stage, self.task.device, self.task.step.weight_decay)
        distributed.barrier()

    def _most_targets(self, learner: Learner) -> float:
        """Target tokens of a micro-batch. At stage 3 so few that their logits are made in one piece: the head's weights
        are gathered once a piece, and processes with different numbers of pieces would wait for each other."""
        if self.task.stage < 3:
            return math.inf
        dtype = torch.bfloat16 if self.task.device.type == "cuda" else torch.float32
        pieces = chunks(torch.empty(1, 1, dtype=dtype), Readout(learner.model).vocabulary, learner.chunk_bytes)
        return int(pieces[0].stop)

    def _share(self, step: int) -> Share:
        pairs = self.task.pairs
        rows = choose_rows(pairs, step=step, batch=self.task.step.batch, seed=self.task.seed)
        if (longest := max(map(pairs.targets, rows))) > self.most_targets:
            raise StudyError(
                f"a translation of {longest} tokens is too long for ZeRO stage 3, which makes the logits of "
                f"{self.most_targets:.0f} at a time; leave it out of the training data"
            )

        def cut(some: Sequence[int]) -> list[list[int]]:
            return micro_rows(pairs, some, self.task.micro_tokens, self.fewest, self.most_targets)

        def made(some: Sequence[int]) -> TrainingBatch:
            batch = padded_batch(pairs, some)
            if self.speller is not None:
                batch = self.speller(batch)
            return batch.pinned() if self.task.device.type == "cuda" else batch

        return share_of(self.rank, self.processes, rows, pairs, cut=cut, made=made)

    def _backward(self, share: Share, step: int) -> tuple[float, bool]:
        """Forward, backward and update. Answers the step's summed loss, of all processes, and whether it is time for a
        checkpoint.

        DeepSpeed divides gradients by the number of processes, so a loss counts as often: the gradient is then that of
        the sum over the step's target tokens, divided by how many those are. Raises MicroBatchTooLarge.
        """
        total = torch.zeros(2, dtype=torch.float32, device=self.task.device)
        if self.first and self._checkpoint_is_due(step + 1):
            total[1] = 1.0
        scale = self.processes / share.target_tokens
        for place, batch in enumerate(share.batches):
            counts = place < share.counted
            self.engine.set_gradient_accumulation_boundary(place == len(share.batches) - 1)
            try:
                loss = self.engine(batch.to(self.task.device)).sum
                self.engine.backward(loss * (scale if counts else 0.0))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise MicroBatchTooLarge(batch.ids.numel(), len(batch.rows), str(error)) from error
            if counts:
                total[0] += loss.detach()
        self.engine.step()
        distributed.all_reduce(total)
        summed, due = total.tolist()
        return summed, due > 0.0

    def _checkpoint_is_due(self, steps: int) -> bool:
        if self.task.checkpoint_steps:
            return steps % self.task.checkpoint_steps == 0
        return self.task.clock() - self.saved_at >= self.task.checkpoint_seconds

    def _destroy(self) -> None:
        """Give up the engine, where there is one, and its memory."""
        if self.next_share is not None:
            self.next_share.cancel()
        if self.engine is None:
            return
        self.engine.destroy()
        self.engine = None
        if self.task.device.type == "cuda":
            torch.cuda.empty_cache()
