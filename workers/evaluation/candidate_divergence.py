"""How far a candidate's next-token distributions lie from the base model's, on translations that both are shown.

It is the mean KL(base ‖ candidate) in nats over target tokens of calibration pairs that no statistics are taken over.
Both are compared over the base model's 64 likeliest tokens and "any other token", so that what the base model says is a
file of a megabyte, and one of a trimmed vocabulary can be compared too: a token that it lacks is any other, and where
one stands in a text the candidate is shown its spelling by others. By the data processing inequality it is never more
than the KL over the whole vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from search_spaces.candidate import digest_of
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.methods.registry import Step
from workers.calibration.calibrate import calibration_identity
from workers.calibration.divergence import (
    LEAST_LOG_PROBABILITY,
    MEASURING_BATCH_TOKENS,
    MEASURING_TOKENS,
    NOT_FINITE,
    target_logits,
)
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Batch, balance_pairs
from workers.plan.code_version import code_version
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment
from workers.runtime.artefact_store import ArtefactStore
from workers.runtime.gpu_memory import release_memory
from workers.training.losses.cached import Likeliest, likeliest
from workers.training.teachers.cache import LIKELIEST

FILE = "reference.safetensors"
_ROWS = 256
# The last references that this process asked for, by their place in the store: every trial of a study has the same.
_held: dict[str, Mapping[str, Reference]] = {}


@dataclass(frozen=True, slots=True)
class Text:
    """A pair as token ids. starts: where each token begins that is predicted, rising and above 0."""

    ids: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the base model says of one language pair's texts, of one predicted token after the other."""

    texts: tuple[Text, ...]
    said: Likeliest

    def rows(self, first: int, last: int) -> Likeliest:
        """What is said of the texts from `first` up to `last`."""
        before = sum(len(text.starts) for text in self.texts[:first])
        count = sum(len(text.starts) for text in self.texts[first:last])
        return self.said.rows(slice(before, before + count))


def references_of(base: Path, context: CompressionContext) -> Mapping[str, Reference]:
    """Language pair -> what the base model says of it, from the store or taken now; empty where no calibration pair is
    left to measure on. base: its folder; context: its parent is that model."""
    if context.store is None or not texts_to_show(context):
        return {}
    key = reference_key(context)
    name = str(context.store / key)

    def build(folder: Path) -> dict[str, Any]:
        from workers.loading.load import load_model, load_tokenizer

        tokenizer = load_tokenizer(base, context.trust_remote_code)
        model = load_model(base, context.whole_on, context.trust_remote_code)
        _write(folder, {langs: _taken(model, texts) for langs, texts in _encoded(tokenizer, context).items()})
        del model
        release_memory()
        return {}

    if name not in _held:
        found = _read(ArtefactStore(context.store).get(key, build).path)
        _held.clear()
        _held[name] = found
    return _held[name]


def reference_key(context: CompressionContext) -> str:
    """The store's key: everything that decides what the base model says."""
    return "reference-" + digest_of(
        {
            "parent": context.parent_key,
            "measuring_tokens": MEASURING_TOKENS[context.device.type],
            "code": code_version([__name__]),
            **calibration_identity(context),
        }
    )


def texts_to_show(context: CompressionContext) -> dict[str, list[Segment]]:
    """Language pair -> the calibration pairs that statistics leave out."""
    found: dict[str, list[Segment]] = {}
    if context.calibration:
        for pair in parts(context.calibration, context.seed)[1]:
            found.setdefault(pair.langs, []).append(pair)
    return found


def divergence_from(references: Mapping[str, Reference], model: Any, respelt: Respelling | None) -> dict[str, float]:
    """Language pair -> the model's mean divergence in nats; raises ValueError for logits that are not finite.

    respelt: for a model of another vocabulary than the base's.
    """
    return {langs: _divergence(reference, model, respelt) for langs, reference in references.items()}


class Respelling:
    """The base model's token ids in a trimmed vocabulary: a token that it lacks is spelt with others."""

    def __init__(self, before: Any, after: Any) -> None:
        """before, after: the base model's fast tokenizer and the candidate's."""
        ids: dict[str, int] = after.get_vocab()
        vocabulary: dict[str, int] = before.get_vocab()
        self._spelling = after.backend_tokenizer.model
        self._tokens = {number: token for token, number in vocabulary.items()}
        self.new_ids = torch.full((max(vocabulary.values(), default=0) + 1,), -1)
        for token, number in vocabulary.items():
            self.new_ids[number] = ids.get(token, -1)

    def text(self, text: Text) -> Text:
        """The text with these ids; what begins at a token begins at the first of its spelling."""
        ids: list[int] = []
        at: list[int] = []
        for number in text.ids:
            at.append(len(ids))
            new = int(self.new_ids[number])
            ids += [new] if new >= 0 else [one.id for one in self._spelling.tokenize(self._tokens[number])]
        return Text(tuple(ids), tuple(at[start] for start in text.starts))

    def ids(self, numbers: torch.Tensor) -> torch.Tensor:
        """New ids; -1 for tokens that are gone, and for rows of the embeddings that no token ever had."""
        known = self.new_ids.to(numbers.device)
        inside = numbers < len(known)
        return torch.where(inside, known[numbers.clamp(max=len(known) - 1)], -1)


def respelling_for(
    steps: Sequence[Step], base: Path, tokenizer: Any, trust_remote_code: bool = False
) -> Respelling | None:
    """The base's tokens in the candidate's vocabulary; None where no step trims it. tokenizer: the candidate's."""
    from workers.loading.load import load_tokenizer

    if not any(isinstance(step, TrimVocabulary) for step in steps):
        return None
    return Respelling(load_tokenizer(base, trust_remote_code), tokenizer)


def bucketed_divergence(said: Likeliest, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL in nats over the likeliest tokens and any other: (n,), float64. ids: int64 (n, k), said.ids in the vocabulary
    of logits (n, vocabulary), -1 where that lacks them."""
    log_q = torch.log_softmax(logits.float(), dim=-1).clamp(min=LEAST_LOG_PROBABILITY)
    there = ids >= 0
    picked = log_q.gather(1, ids.clamp(min=0))
    # A token that is gone picks row 0, and is sent beyond the vocabulary where rows are struck out.
    padded = torch.cat([log_q, log_q[:, :1]], dim=1)
    rest_q = padded.scatter(1, torch.where(there, ids, logits.shape[1]), -torch.inf)[:, :-1].logsumexp(-1)
    gone = torch.where(there, -torch.inf, said.logs).logsumexp(-1)
    rest_p = gone if said.tail is None else torch.logaddexp(gone, said.tail)
    kept = torch.where(there, said.logs.exp() * (said.logs - picked), 0.0).sum(-1, dtype=torch.float64)
    rest = rest_p.exp() * (rest_p - rest_q.clamp(min=LEAST_LOG_PROBABILITY))
    return kept + torch.where(rest_p > LEAST_LOG_PROBABILITY, rest, 0.0).double()


def _divergence(reference: Reference, model: Any, respelt: Respelling | None) -> float:
    parts = []
    with torch.inference_mode():
        for first, last in _batched(reference.texts):
            texts = [respelt.text(text) if respelt else text for text in reference.texts[first:last]]
            logits = target_logits(model, _batch(texts))
            said = reference.rows(first, last)
            for start in range(0, len(logits), _ROWS):
                rows = slice(start, start + _ROWS)
                one = _moved(said.rows(rows), logits.device)
                ids = respelt.ids(one.ids) if respelt else one.ids
                parts.append(bucketed_divergence(one, ids, logits[rows]).sum())
    found: float = sum(torch.stack(parts).tolist()) / max(len(reference.said.ids), 1)
    if not math.isfinite(found):
        raise ValueError(NOT_FINITE)
    # Rounding of equal distributions may leave a little less than nothing.
    return max(found, 0.0)


def _moved(said: Likeliest, device: torch.device) -> Likeliest:
    return Likeliest(said.ids.to(device), said.logs.to(device), None if said.tail is None else said.tail.to(device))


def _taken(model: Any, texts: Sequence[Text]) -> Reference:
    found: list[Likeliest] = []
    with torch.inference_mode():
        for first, last in _batched(texts):
            said = likeliest(target_logits(model, _batch(texts[first:last])), LIKELIEST)
            found.append(_moved(said, torch.device("cpu")))
    tails = [one.tail for one in found if one.tail is not None]
    whole = Likeliest(
        torch.cat([one.ids for one in found]),
        torch.cat([one.logs for one in found]),
        torch.cat(tails) if tails else None,
    )
    if not torch.isfinite(whole.logs).all():
        raise ValueError(NOT_FINITE)
    return Reference(tuple(texts), whole)


def _encoded(tokenizer: Any, context: CompressionContext) -> dict[str, list[Text]]:
    """Language pair -> its texts, the longest first; as many tokens of each, and those in all as the device has
    them."""
    by_langs = texts_to_show(context)
    tokens = MEASURING_TOKENS[context.device.type] // len(by_langs)
    found: dict[str, list[Text]] = {}
    for langs, pairs in by_langs.items():
        shown = sorted(balance_pairs(pairs, tokenizer, context.prompt, tokens), key=lambda one: -len(one.ids))
        texts = [Text(one.ids, tuple(range(max(one.target_start, 1), len(one.ids)))) for one in shown]
        if texts := [text for text in texts if text.starts]:
            found[langs] = texts
    return found


def _batched(texts: Sequence[Text]) -> Iterator[tuple[int, int]]:
    """From which text to which goes into one batch."""
    first = 0
    while first < len(texts):
        last = first + max(MEASURING_BATCH_TOKENS // max(len(texts[first].ids), 1), 1)
        yield first, min(last, len(texts))
        first = last


def _batch(texts: Sequence[Text]) -> Batch:
    """The texts padded on the right; targets are the tokens that are predicted."""
    width = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), width, dtype=torch.int64)
    mask = torch.zeros(len(texts), width, dtype=torch.bool)
    target = torch.zeros(len(texts), width, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.tensor(text.ids)
        mask[row, : len(text.ids)] = True
        target[row, list(text.starts)] = True
    return Batch(ids, mask, target)


def _write(folder: Path, references: Mapping[str, Reference]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for langs, one in references.items():
        tensors[f"{langs}.ids"] = torch.tensor([number for text in one.texts for number in text.ids])
        tensors[f"{langs}.lengths"] = torch.tensor([len(text.ids) for text in one.texts])
        tensors[f"{langs}.predicted"] = torch.tensor([len(text.starts) for text in one.texts])
        tensors[f"{langs}.said"] = one.said.ids.int()
        tensors[f"{langs}.logs"] = one.said.logs
        if one.said.tail is not None:
            tensors[f"{langs}.tail"] = one.said.tail
    save_file(tensors, folder / FILE)


def _read(folder: Path) -> dict[str, Reference]:
    tensors = load_file(folder / FILE)
    found: dict[str, Reference] = {}
    for langs in sorted(name.removesuffix(".ids") for name in tensors if name.endswith(".ids")):
        texts: list[Text] = []
        numbers, at = tensors[f"{langs}.ids"].tolist(), 0
        sizes = zip(tensors[f"{langs}.lengths"].tolist(), tensors[f"{langs}.predicted"].tolist(), strict=True)
        for length, predicted in sizes:
            texts.append(Text(tuple(numbers[at : at + length]), tuple(range(length - predicted, length))))
            at += length
        said = Likeliest(tensors[f"{langs}.said"].long(), tensors[f"{langs}.logs"], tensors.get(f"{langs}.tail"))
        found[langs] = Reference(tuple(texts), said)
    return found
