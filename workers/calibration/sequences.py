"""Which calibration pairs are read, and how they become batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workers.reading.segments import Segment
from workers.translation.prompts import Prompt, with_translation

LONGEST = 512
BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as token ids; target_start: the position of the first token of the translation."""

    ids: tuple[int, ...]
    target_start: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of about one length, padded on the right. ids: int64 (sequences, tokens). mask: bool, the same shape,
    True on real tokens. target: bool, the same shape, True on tokens of a translation (end of sequence included)."""

    ids: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor

    @property
    def tokens(self) -> int:
        return int(self.mask.sum())

    def inputs(self, device: torch.device) -> dict[str, Any]:
        """What a model on that device is called with; without a mask where nothing is padded, which is faster."""
        mask = None if bool(self.mask.all()) else self.mask.to(device)
        return {"input_ids": self.ids.to(device), "attention_mask": mask, "use_cache": False}


def balance_pairs(
    pairs: Sequence[Segment], tokenizer: Any, prompt: Prompt, tokens: int, longest: int = LONGEST
) -> list[Shown]:
    """Pairs in the model's prompt with their translation and end of sequence, about as many tokens of each language
    pair, `tokens` in all or as many as there are. Sequences are cut at `longest` tokens."""
    by_langs: dict[str, list[Segment]] = {}
    for pair in pairs:
        by_langs.setdefault(pair.langs, []).append(pair)
    chosen: list[Shown] = []
    left = tokens
    for position, langs in enumerate(sorted(by_langs, key=lambda langs: (len(by_langs[langs]), langs))):
        share = left // (len(by_langs) - position)
        for pair in by_langs[langs]:
            if share <= 0:
                break
            sequence = encode_pair(pair, tokenizer, prompt, longest)
            chosen.append(sequence)
            share -= len(sequence.ids)
            left -= len(sequence.ids)
    return chosen


def encode_pair(pair: Segment, tokenizer: Any, prompt: Prompt, longest: int = LONGEST) -> Shown:
    """A pair as the model is shown it: the prompt, the first reference and the end of sequence, cut at `longest`
    tokens."""
    return encode_pairs([pair], tokenizer, prompt, longest)[0]


def encode_pairs(pairs: Sequence[Segment], tokenizer: Any, prompt: Prompt, longest: int = LONGEST) -> list[Shown]:
    """Pairs as `encode_pair` gives them, tokenized together, which is faster for many. `target_start` is `longest`
    where the cut leaves nothing of the translation."""
    before = [prompt.render(pair, tokenizer, ()) for pair in pairs]
    whole = [with_translation(request, pair) for request, pair in zip(before, pairs, strict=True)]
    asked = tokenizer(before, add_special_tokens=prompt.special_tokens)["input_ids"]
    answered = tokenizer(whole, add_special_tokens=prompt.special_tokens)["input_ids"]
    end = tokenizer.eos_token_id
    found: list[Shown] = []
    for start, ids in zip(map(len, asked), answered, strict=True):
        ended = ids if end is None or (ids and ids[-1] == end) else [*ids, end]
        found.append(Shown(tuple(ended[:longest]), min(start, longest)))
    return found


def plain(lines: Sequence[str], tokenizer: Any, tokens: int, longest: int = LONGEST) -> list[Shown]:
    """Lines of running text as they are, cut at `longest` tokens, `tokens` in all or as many as there are."""
    chosen: list[Shown] = []
    for line in lines:
        if tokens <= 0:
            break
        ids = tokenizer(line)["input_ids"][:longest]
        chosen.append(Shown(tuple(ids), 0))
        tokens -= len(ids)
    return chosen


def batches(sequences: Sequence[Shown], batch_tokens: int = BATCH_TOKENS) -> list[Batch]:
    """The sequences by falling length, as many in a batch as fit `batch_tokens` with their padding."""
    ordered = sorted(sequences, key=lambda sequence: -len(sequence.ids))
    made: list[Batch] = []
    start = 0
    while start < len(ordered):
        count = max(batch_tokens // max(len(ordered[start].ids), 1), 1)
        made.append(_padded(ordered[start : start + count]))
        start += count
    return made


def split(batch: Batch, tokens: int) -> list[Batch]:
    """The batch in parts of so many tokens with their padding, or of one sequence."""
    count = max(tokens // batch.ids.shape[1], 1)
    parts = zip(batch.ids.split(count), batch.mask.split(count), batch.target.split(count), strict=True)
    return [Batch(ids, mask, target) for ids, mask, target in parts]


def _padded(sequences: Sequence[Shown]) -> Batch:
    width = len(sequences[0].ids)
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    target = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        mask[row, : len(sequence.ids)] = True
        target[row, sequence.target_start : len(sequence.ids)] = True
    return Batch(ids, mask, target)
