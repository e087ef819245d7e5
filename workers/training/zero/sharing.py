"""How the rows of an optimizer step are shared out among processes, so that all do the same number of micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.training.data.batches import TrainingBatch

if TYPE_CHECKING:
    from workers.training.data.tokenized_pairs import TokenizedPairs

Rows = Sequence[int]
# The rows of each micro-batch that these rows make.
Cut = Callable[[Rows], list[list[int]]]


class MicroBatchTooLarge(MemoryError):
    """Memory did not suffice for a micro-batch of so many tokens with padding, in so many sequences."""

    def __init__(self, tokens: int, sequences: int, why: str) -> None:
        super().__init__(tokens, sequences, why)
        self.tokens, self.sequences, self.why = tokens, sequences, why

    def __str__(self) -> str:
        return f"no memory for a micro-batch of {self.tokens} tokens ({self.sequences} sequences): {self.why}"


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


def deal_rows(rows: Sequence[int], lengths: Sequence[int], processes: int) -> list[list[int]]:
    """The rows of each process: dealt from the longest down, to and fro, so that all have about as many tokens."""
    order = sorted(range(len(rows)), key=lambda at: (-lengths[at], at))
    shares: list[list[int]] = [[] for _ in range(processes)]
    for place, at in enumerate(order):
        turn, seat = divmod(place, processes)
        shares[seat if turn % 2 == 0 else processes - 1 - seat].append(rows[at])
    return shares


def share_of(
    rank: int,
    processes: int,
    rows: Sequence[int],
    pairs: TokenizedPairs,
    cut: Cut,
    made: Callable[[Rows], TrainingBatch],
) -> Share:
    """The share of process `rank` in a step. Every process cuts all shares, so they agree without asking.

    cut: the rows of each micro-batch; made: one of them. A collective that one process enters and another does not is
    waited for without end, so whoever has fewer micro-batches goes on with the shortest row of the step, which then
    counts nothing.
    """
    lengths = [pairs.length(row) for row in rows]
    everyone = [cut(part) for part in deal_rows(rows, lengths, processes)]
    most = max(len(of_one) for of_one in everyone)
    mine = [made(part) for part in everyone[rank]]
    shortest = min(range(len(rows)), key=lambda at: (lengths[at], at))
    filler = [made([rows[shortest]])] * (most - len(mine)) if len(mine) < most else []
    return Share(
        batches=(*mine, *filler),
        counted=len(mine),
        tokens=sum(lengths),
        target_tokens=sum(pairs.targets(row) for row in rows),
    )
