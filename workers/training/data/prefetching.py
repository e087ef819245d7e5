"""The micro-batches of the next optimizer steps, prepared by a thread while the device works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from workers.training.data.batches import TrainingBatch, batches_for
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs

AHEAD = 3


@dataclass(frozen=True, slots=True)
class StepBatches:
    """What one optimizer step reads. tokens: real ones, prompts included; targets: tokens that the loss is over."""

    batches: tuple[TrainingBatch, ...]
    tokens: int
    targets: int


def prepare_step(
    pairs: TokenizedPairs,
    step: int,
    *,
    batch: int,
    seed: int,
    micro_tokens: int,
    fewest: int,
    packs: bool,
    pinned: bool,
    speller: Callable[[TrainingBatch], TrainingBatch] | None = None,
) -> StepBatches:
    """The work of the step, counted from 0: the same for the same arguments. packs: without padding. pinned: in
    page-locked memory. speller: adds how the teacher spells a batch."""
    rows = choose_rows(pairs, step=step, batch=batch, seed=seed)
    made = batches_for(pairs, rows, micro_tokens, fewest, packs)
    if speller is not None:
        made = [speller(one) for one in made]
    tokens = sum(one.tokens for one in made)
    targets = sum(one.target_tokens for one in made)
    return StepBatches(tuple(one.pinned() if pinned else one for one in made), tokens, targets)


class Prefetcher:
    """The work of step after step, in order, a few steps ahead; an error of the thread is raised by `next`."""

    def __init__(self, make: Callable[[int], StepBatches], first: int) -> None:
        self._make = make
        self._next = first
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="training-feed")
        self._ahead: deque[Future[StepBatches]] = deque()
        for _ in range(AHEAD):
            self._ask()

    def next(self) -> StepBatches:
        self._ask()
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the thread; what it prepared is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def _ask(self) -> None:
        self._ahead.append(self._thread.submit(self._make, self._next))
        self._next += 1
