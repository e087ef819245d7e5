"""The same text in the student's tokens and in the teacher's: where both say what comes next by one and the same token.

A student whose vocabulary is a part of its teacher's spells some words with more tokens. The teacher reads the text as
it was taught to, and where both have come equally far in it and the next token is the same, what it says of it can be
learnt from. In between, inside of a word that the student spells otherwise, it says nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workers.calibration.sequences import LONGEST, encode_pairs
from workers.training.data.batches import Spelled, TrainingBatch, packed, sequences_batch
from workers.training.data.permutation import Indices
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.translation.prompts import Prompt

# A byte that has no token of its own, as SentencePiece's tokenizers write it.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Speller:
    """Adds to batches of these pairs how the teacher spells them.

    pairs: in the student's tokens. own, teacher: the tokenizers; every token of `own` is one of the teacher's. prompt:
    the pairs'. columns: int64 (rows,), the teacher's id of what each of the student's logits is of, -1 where it is of
    no token.
    """

    def __init__(
        self, pairs: TokenizedPairs, own: Any, teacher: Any, prompt: Prompt, rows: int, longest: int = LONGEST
    ) -> None:
        self._pairs = pairs
        self._teacher = teacher
        self._prompt = prompt
        self._longest = longest
        own_ids, their_ids = own.get_vocab(), teacher.get_vocab()
        in_bytes = "<0x00>" in their_ids
        self._lengths = _lengths(own_ids, in_bytes)
        self._their_lengths = _lengths(their_ids, in_bytes)
        self._theirs = np.full(max(len(self._lengths), rows), -1, np.int64)
        for token, number in own_ids.items():
            self._theirs[number] = their_ids[token]
        self.columns = torch.from_numpy(self._theirs[:rows].copy())

    def __call__(self, batch: TrainingBatch) -> TrainingBatch:
        """The batch with `teacher` set; without padding where the batch is."""
        segments = [self._pairs.segment(row) for row in batch.rows]
        shown = encode_pairs(segments, self._teacher, self._prompt, self._longest)
        theirs = [np.asarray(one.ids, np.int64) for one in shown]
        width = max(map(len, theirs))
        matched: list[Indices] = []
        predicting: list[Indices] = []
        before = 0
        for place, row in enumerate(batch.rows):
            ids, start = self._pairs.ids(row), self._pairs.target_start(row)
            found = self._alike(ids, theirs[place], start)
            at = np.flatnonzero(found >= 0)
            matched.append(before + at)
            predicting.append(place * width + found[at])
            before += len(found)
        those = np.concatenate(matched)
        others = np.setdiff1d(np.arange(before), those)
        read = sequences_batch(theirs, [one.target_start for one in shown], batch.rows)
        read = replace(read, predicting=torch.from_numpy(np.concatenate(predicting)))
        spelled = Spelled(
            batch=packed(read) if batch.packing is not None else read,
            matched=torch.from_numpy(those),
            others=torch.from_numpy(others),
        )
        return replace(batch, teacher=spelled)

    def _alike(self, own: Indices, theirs: Indices, start: int) -> Indices:
        """For each of the student's target tokens, from `start` on, the teacher's token after which it says the same
        one; -1 where it does not. own, theirs: ids of one text."""
        reached, their_reached = self._lengths[own].cumsum(), self._their_lengths[theirs].cumsum()
        shorter = min(int(reached[-1]), int(their_reached[-1]))
        first = max(start, 1)
        # The student predicts from the token before, and a teacher that has read as far from its own.
        wanted = reached[first - 1 : -1]
        at = np.searchsorted(their_reached, wanted)
        last = len(theirs) - 1
        near = np.minimum(at, last - 1) if last else np.zeros_like(at)
        same = (at < last) & (their_reached[near] == wanted) & (wanted < shorter)
        if last:
            same &= theirs[near + 1] == self._theirs[own[first:]]
        return np.where(same, near, -1)


def _lengths(ids: dict[str, int], in_bytes: bool) -> Indices:
    """How far in a text each token goes: in bytes of its UTF-8 for a tokenizer that falls back to bytes, else in
    characters, each of which stands for a byte in byte-level tokenizers."""
    lengths = np.zeros(max(ids.values()) + 1, np.int64)
    for token, number in ids.items():
        lengths[number] = (1 if _BYTE.fullmatch(token) else len(token.encode())) if in_bytes else len(token)
    return lengths
