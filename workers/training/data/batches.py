"""Batches of token ids for training: the sequences of an optimizer step, in micro-batches of about one length each, or
without padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from workers.training.data.permutation import Indices

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
class Packing:
    """A padded batch (n, t) with its N real tokens behind one another. real: int64 (N,), where they lie in the
    flattened batch. positions: int64 (N,), each token's place in its sequence. ends: int32 (n + 1,), 0 and where each
    sequence ends. longest: tokens of the longest."""

    real: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    longest: int

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Packing:
        """The same of changed tensors."""
        return Packing(change(self.real), change(self.positions), change(self.ends), self.longest)


@dataclass(frozen=True, slots=True)
class Spelled:
    """A batch's text in the tokens of a teacher that has more. batch: those, `predicting` the positions whose next
    token is the student's too. matched: int64 (m,), of which of the student's target tokens those are, as they are
    numbered in its `predicting`. others: int64 (targets - m,), the rest."""

    batch: TrainingBatch
    matched: torch.Tensor
    others: torch.Tensor


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences padded on the right. ids: int64 (n, t), 0 where padded. mask: bool (n, t), True on real tokens.
    target: bool (n, t), True on tokens of the translation, end of sequence included; position p is predicted from
    p - 1. predicting: int64 (targets,), those positions p - 1 in the flattened (n, t), ascending. rows: the sequences'
    indices in the TokenizedPairs. packing: where the decoder is to read it without padding. teacher: where the teacher
    has other tokens."""

    ids: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor
    predicting: torch.Tensor
    rows: tuple[int, ...]
    packing: Packing | None = None
    teacher: Spelled | None = None

    @property
    def size(self) -> int:
        """Tokens that a decoder reads of it."""
        return self.ids.numel() if self.packing is None else len(self.packing.real)

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
        return self._each(lambda one: one.to(device, non_blocking=True))

    def pinned(self) -> TrainingBatch:
        """The batch in page-locked memory, from which copies to a GPU don't wait."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> TrainingBatch:
        ids, mask, target, predicting = map(change, (self.ids, self.mask, self.target, self.predicting))
        packing = None if self.packing is None else self.packing.each(change)
        if (theirs := self.teacher) is not None:
            theirs = Spelled(theirs.batch._each(change), change(theirs.matched), change(theirs.others))
        return TrainingBatch(ids, mask, target, predicting, self.rows, packing, theirs)


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


def batches_for(
    pairs: TokenizedPairs, chosen: Sequence[int], micro_tokens: int, fewest: int, packs: bool
) -> list[TrainingBatch]:
    """`packed_batches` for a model that reads them, `micro_batches` for another."""
    return packed_batches(pairs, chosen, micro_tokens) if packs else micro_batches(pairs, chosen, micro_tokens, fewest)


def packed_batches(pairs: TokenizedPairs, chosen: Sequence[int], micro_tokens: int) -> list[TrainingBatch]:
    """The chosen sequences by falling length, in batches without padding of at most `micro_tokens` tokens; a longer
    sequence is a batch of its own."""
    made: list[list[int]] = []
    room = 0
    for row in sorted(chosen, key=lambda row: -pairs.length(row)):
        length = pairs.length(row)
        if not made or length > room:
            made.append([])
            room = micro_tokens
        made[-1].append(row)
        room -= length
    return [packed(padded_batch(pairs, rows)) for rows in made]


def packed(batch: TrainingBatch) -> TrainingBatch:
    """The batch, with what a decoder needs to read it without padding."""
    lengths = batch.mask.sum(1)
    real = batch.mask.flatten().nonzero()[:, 0]
    positions = torch.arange(batch.ids.shape[1]).expand(batch.ids.shape)[batch.mask]
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    return replace(batch, packing=Packing(real, positions, ends, int(lengths.max())))


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
    return sequences_batch([pairs.ids(row) for row in rows], [pairs.target_start(row) for row in rows], rows)


def sequences_batch(sequences: Sequence[Indices], target_starts: Sequence[int], rows: Sequence[int]) -> TrainingBatch:
    """Token ids in one batch, in this order. target_starts: where each translation begins. rows: the sequences'."""
    lengths = np.array([len(one) for one in sequences])
    starts = np.array(target_starts)
    ids = np.zeros((len(sequences), int(lengths.max())), np.int64)
    for place, (one, length) in enumerate(zip(sequences, lengths, strict=True)):
        ids[place, :length] = one
    positions = np.arange(ids.shape[1])
    mask = positions < lengths[:, None]
    target = mask & (positions >= starts[:, None])
    return made_batch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(target), tuple(rows))


def made_batch(ids: torch.Tensor, mask: torch.Tensor, target: torch.Tensor, rows: tuple[int, ...]) -> TrainingBatch:
    """The batch of these tensors on the host (`TrainingBatch`)."""
    predicting = torch.nn.functional.pad(target[:, 1:], (0, 1)).flatten().nonzero()[:, 0]
    return TrainingBatch(ids, mask, target, predicting, rows)
