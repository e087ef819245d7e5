"""Batches of token ids for training: the sequences of an optimizer step, in micro-batches of about one length each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from workers.training.data.tokenized_pairs import TokenizedPairs

# A micro-batch is cut where more than this share of it would be padding, once it has so many tokens.
PADDING_SHARE = 0.08
FEWEST_TOKENS = 1024
# A GPU takes as long to be told of a micro-batch as to work on so many tokens, times the parameters to the power of 2/3
# (layers are what it is told of, and they grow with the third root of the parameters). LoRA on 7B with compiled layers,
# an H100 beside a slow host: 0.44 s to tell, and 54 us of work a token.
WORTH_TELLING = 3.4e10
# So many keep any GPU at work.
MOST_WORTH = 65_536


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences padded on the right. ids: int64 (n, t), 0 where padded. mask: bool (n, t), True on real tokens.
    target: bool (n, t), True on tokens of the translation, end of sequence included; position p is predicted from
    p - 1. rows: the sequences' indices in the TokenizedPairs."""

    ids: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Real tokens, prompts included."""
        return int(self.mask.sum())

    @property
    def target_tokens(self) -> int:
        """Tokens that the loss is taken over."""
        return int(self.target.sum())

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch on that device; copied without waiting where its memory is pinned."""
        ids, mask, target = (one.to(device, non_blocking=True) for one in (self.ids, self.mask, self.target))
        return TrainingBatch(ids, mask, target, self.rows)

    def pinned(self) -> TrainingBatch:
        """The batch in page-locked memory, from which copies to a GPU don't wait."""
        return TrainingBatch(self.ids.pin_memory(), self.mask.pin_memory(), self.target.pin_memory(), self.rows)


def fewest_tokens(parameters: int, device: torch.device) -> int:
    """Tokens below which a micro-batch of a model of so many parameters is not cut to spare padding: 9,200 at 7B on a
    GPU, MOST_WORTH below 0.4B."""
    if device.type != "cuda":
        return FEWEST_TOKENS
    return min(max(FEWEST_TOKENS, int(WORTH_TELLING / max(parameters, 1) ** (2 / 3))), MOST_WORTH)


def fewest_tokens_of(model: torch.nn.Module, device: torch.device) -> int:
    """The same of a model whose weights are whole."""
    return fewest_tokens(sum(one.numel() for one in model.parameters()), device)


def halve_micro_tokens(micro_tokens: int, too_large: int) -> int:
    """`micro_tokens`, halved until a micro-batch is smaller than one of `too_large` tokens with padding."""
    while micro_tokens >= too_large:
        micro_tokens //= 2
    return micro_tokens


def micro_batches(
    pairs: TokenizedPairs, chosen: Sequence[int], micro_tokens: int, fewest: int = FEWEST_TOKENS
) -> list[TrainingBatch]:
    """The chosen sequences by falling length, in batches of at most `micro_tokens` tokens with their padding; a longer
    sequence is a batch of its own. Equal lengths keep the order in which they were chosen. fewest: `fewest_tokens`."""
    return [padded_batch(pairs, rows) for rows in micro_rows(pairs, chosen, micro_tokens, fewest)]


def micro_rows(
    pairs: TokenizedPairs,
    chosen: Sequence[int],
    micro_tokens: int,
    fewest: int = FEWEST_TOKENS,
    most_targets: float = math.inf,
) -> list[list[int]]:
    """The rows of each of `micro_batches`. most_targets: target tokens that several sequences may have together."""
    ordered = sorted(chosen, key=lambda row: -pairs.length(row))
    made: list[list[int]] = []
    start = 0
    while start < len(ordered):
        widest = real = pairs.length(ordered[start])
        targets = pairs.targets(ordered[start])
        end = start + 1
        while end < len(ordered):
            length = pairs.length(ordered[end])
            targets += pairs.targets(ordered[end])
            padded = widest * (end + 1 - start)
            sparse = real + length < (1 - PADDING_SHARE) * padded
            if padded > micro_tokens or targets > most_targets or (sparse and padded - widest >= fewest):
                break
            real += length
            end += 1
        made.append(ordered[start:end])
        start = end
    return made


def padded_batch(pairs: TokenizedPairs, rows: Sequence[int]) -> TrainingBatch:
    """The sequences in one batch, in this order."""
    lengths = np.array([pairs.length(row) for row in rows])
    starts = np.array([pairs.target_start(row) for row in rows])
    ids = np.zeros((len(rows), int(lengths.max())), np.int64)
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[place, :length] = pairs.ids(row)
    positions = np.arange(ids.shape[1])
    mask = positions < lengths[:, None]
    target = mask & (positions >= starts[:, None])
    return TrainingBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(target), tuple(rows))
