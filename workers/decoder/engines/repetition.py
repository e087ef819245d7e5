"""The repetition penalty: a token that a sequence holds already, prompt included, is made less likely (Keskar et al.
2019, https://arxiv.org/abs/1909.05858, section 4.1), once however often it is there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch


class Repetition:
    """What each slot's sequence holds, on the scores' device, and the scores as they are with the penalty.

    Nothing here waits for the device, and every shape is fixed by the number of slots asked for, so that a CUDA graph
    can hold `add` and `lower`.
    """

    def __init__(self, penalty: float, slots: int, room: int, device: torch.device) -> None:
        """room: tokens that the longest sequence will have."""
        self._penalty = penalty
        # What a row has no token for yet repeats its first one, which changes nothing.
        self._held = torch.zeros((slots, room), dtype=torch.int64, device=device)

    def begin(self, slots: torch.Tensor, prompts: Sequence[Sequence[int]]) -> None:
        """Let each slot hold its prompt alone. slots: (prompts,)."""
        lengths = [len(ids) for ids in prompts]
        tokens = self._on_device([token for ids in prompts for token in ids])
        counts, ends = self._on_device(lengths), self._on_device(list(accumulate(lengths)))
        rows, starts = (torch.repeat_interleave(one, counts, output_size=len(tokens)) for one in (slots, ends - counts))
        self._held[slots] = self._on_device([ids[0] for ids in prompts])[:, None]
        self._held[rows, torch.arange(len(tokens), device=rows.device) - starts] = tokens

    def add(self, slots: torch.Tensor, positions: torch.Tensor, tokens: torch.Tensor) -> None:
        """Each slot's token at its position; all (tokens,)."""
        self._held[slots, positions] = tokens

    def copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Let each target hold what its source holds, all at once."""
        self._held[targets] = self._held[sources]

    def lower(self, scores: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The scores (slots, vocabulary), changed in place: those of held tokens divided by the penalty, or multiplied
        where they are negative."""
        held = self._held[slots]
        known = scores.gather(1, held)
        return scores.scatter_(1, held, torch.where(known < 0, known * self._penalty, known / self._penalty))

    def _on_device(self, values: Sequence[int]) -> torch.Tensor:
        given = torch.tensor(values, dtype=torch.int64)
        return (given.pin_memory() if self._held.is_cuda else given).to(self._held.device, non_blocking=True)
