"""How the rows of an optimizer step are shared out among processes, so that all do the same number of micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.training.batches import TrainingBatch

Batches = Callable[[Sequence[int]], list[TrainingBatch]]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does of an optimizer step.

    batches: its micro-batches, as many as every other process has. counted: how many of them, the first ones, count;
    the rest fill up, and their loss is multiplied by zero. tokens, target_tokens: real tokens of the whole step, all
    processes together.
    """

    batches: tuple[TrainingBatch, ...]
    counted: int
    tokens: int
    target_tokens: int


def dealt(rows: Sequence[int], lengths: Sequence[int], processes: int) -> list[list[int]]:
    """The rows of each process: dealt from the longest down, to and fro, so that all have about as many tokens."""
    order = sorted(range(len(rows)), key=lambda at: (-lengths[at], at))
    shares: list[list[int]] = [[] for _ in range(processes)]
    for place, at in enumerate(order):
        turn, seat = divmod(place, processes)
        shares[seat if turn % 2 == 0 else processes - 1 - seat].append(rows[at])
    return shares


def share_of(rank: int, processes: int, rows: Sequence[int], lengths: Sequence[int], batches: Batches) -> Share:
    """The share of process `rank` in a step. Every process works out all shares, so they agree without asking.

    lengths: tokens of each row. A collective that one process enters and another does not is waited for without end,
    so whoever has fewer micro-batches goes on with the shortest row of the step, which then counts nothing.
    """
    everyone = [batches(part) for part in dealt(rows, lengths, processes)]
    most = max(len(of_one) for of_one in everyone)
    mine = everyone[rank]
    shortest = min(range(len(rows)), key=lambda at: (lengths[at], at))
    filler = batches([rows[shortest]]) * (most - len(mine)) if len(mine) < most else []
    return Share(
        batches=(*mine, *filler),
        counted=len(mine),
        tokens=sum(batch.tokens for of_one in everyone for batch in of_one),
        target_tokens=sum(batch.target_tokens for of_one in everyone for batch in of_one),
    )
