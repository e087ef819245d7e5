"""Which tokens the calibration and training data use, and the texts left out that a trimmed vocabulary is checked on.

A thousand calibration pairs show a tenth of the tokens that a hundred thousand training pairs do: of 152,000 tokens cut
to 57,000 by the first, 26 % of the Chinese tokens of a test set were gone, by both 2 %.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from workers.calibration.pair_parts import MEASURING_SHARE, parts
from workers.plan.code_version import code_version
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment
from workers.reading.training_data import TrainingData, examples, normalise_text
from workers.runtime.artefact_store import ArtefactStore
from workers.translation.prompts import request_identity

# Pairs of a language pair whose prompts are compared: what all of them have is the prompt's own.
RENDERED_PAIRS = 16
TEXTS_AT_A_TIME = 1024
# Training pairs of a direction that are counted.
COUNTED_PAIRS = 20_000

COUNTS = "counts.json"

# Language pair -> token id -> how often.
Counts = dict[str, Counter[int]]


@dataclass(frozen=True, slots=True)
class Usage:
    """Which tokens the calibration texts use, and texts to check a trimmed tokenizer on."""

    weights: Mapping[int, float]
    """Token id -> its share of the tokens of calibration and training texts; every language pair weighs alike."""
    prompt: frozenset[int]
    """The ids that the prompt puts into every request."""
    held_out: tuple[str, ...]
    """Texts that were not counted, as the model sees them."""
    special_tokens: bool
    """Whether the tokenizer adds its own special tokens to `held_out`."""
    prompt_tokens: int
    """Tokens of `held_out` that belong neither to a source nor to a translation."""


def usage_of(tokenizer: Any, context: CompressionContext) -> Usage:
    """The parent's tokens in use; raises StudyError without calibration data, or with too few to hold some out."""
    if not context.calibration and not context.calibration_text:
        raise StudyError("trim_vocabulary counts tokens in calibration pairs; name a file of them with --calibration")
    prompt = _prompt_ids(tokenizer, context)
    usage = _of_text(tokenizer, context, prompt) if context.calibration_text else _of_pairs(tokenizer, context, prompt)
    if not usage.held_out:
        raise StudyError(
            f"trim_vocabulary holds out one calibration text in {MEASURING_SHARE} to check the tokenizer on, and there "
            f"are fewer than {MEASURING_SHARE}; name a file of more with --calibration"
        )
    return usage


def encode_texts(tokenizer: Any, texts: Sequence[str], special_tokens: bool) -> Iterator[list[int]]:
    """Each text's ids."""
    for start in range(0, len(texts), TEXTS_AT_A_TIME):
        some = list(texts[start : start + TEXTS_AT_A_TIME])
        yield from tokenizer(some, add_special_tokens=special_tokens)["input_ids"]


def _of_text(tokenizer: Any, context: CompressionContext, prompt: frozenset[int]) -> Usage:
    lines = context.calibration_text
    counted = [line for number, line in enumerate(lines, start=1) if number % MEASURING_SHARE]
    held_out = tuple(lines[MEASURING_SHARE - 1 :: MEASURING_SHARE])
    counts = _of_training(tokenizer, context, held_out)
    counts[""] = Counter(token for ids in encode_texts(tokenizer, counted, True) for token in ids)
    return Usage(_shares(counts), prompt, held_out, True, 0)


def _of_pairs(tokenizer: Any, context: CompressionContext, prompt: frozenset[int]) -> Usage:
    special = context.prompt.special_tokens
    counted, measuring = parts(context.calibration, context.seed)
    counts = _of_training(tokenizer, context, [text for pair in measuring for text in (pair.source, *pair.references)])
    _count(counts, counted, tokenizer, context)
    without_source = [context.prompt.render(replace(pair, source=""), tokenizer, ()) for pair in measuring]
    return Usage(
        weights=_shares(counts),
        prompt=prompt,
        held_out=tuple(context.prompt.answered(pair, tokenizer) for pair in measuring),
        special_tokens=special,
        prompt_tokens=sum(len(ids) for ids in encode_texts(tokenizer, without_source, special)),
    )


def _of_training(tokenizer: Any, context: CompressionContext, left_out: Iterable[str]) -> Counts:
    """Counts of training pairs, at most COUNTED_PAIRS of a direction, by a store where there is one; none of pairs with
    one of these texts. Raises DataError for a bad row."""
    data, store = context.training, context.store
    if data is None:
        return {}
    without = frozenset(map(normalise_text, left_out))
    if store is None:
        return _counted(tokenizer, context, data, without)
    key = {
        "parent": context.parent_key,
        "training": data.digest,
        "left_out": digest_of(sorted(without)),
        "code": code_version([__name__]),
        **request_identity(context.prompt, data.langs),
    }

    def build(folder: Path) -> dict[str, Any]:
        found = _counted(tokenizer, context, data, without)
        (folder / COUNTS).write_text(json.dumps(found), encoding="utf-8")
        return key

    kept = ArtefactStore(store).get(f"tokens-{digest_of(key)}", build).path / COUNTS
    read: dict[str, dict[str, int]] = json.loads(kept.read_text(encoding="utf-8"))
    return {langs: Counter({int(token): count for token, count in one.items()}) for langs, one in read.items()}


def _counted(tokenizer: Any, context: CompressionContext, data: TrainingData, without: frozenset[str]) -> Counts:
    seen: Counter[str] = Counter()

    def chosen() -> Iterator[Segment]:
        for example in examples(data, Counter()):
            texts = {normalise_text(example.source), normalise_text(example.reference)}
            if seen[example.langs] < COUNTED_PAIRS and without.isdisjoint(texts):
                seen[example.langs] += 1
                yield example.segment
            elif all(seen[langs] >= COUNTED_PAIRS for langs in data.langs):
                return

    counts: Counts = {}
    pairs = chosen()
    while some := list(islice(pairs, TEXTS_AT_A_TIME)):
        _count(counts, some, tokenizer, context)
    return counts


def _count(counts: Counts, pairs: Sequence[Segment], tokenizer: Any, context: CompressionContext) -> None:
    """Add the tokens of these pairs, as the model sees them with their translations, to the counts."""
    texts = [context.prompt.answered(pair, tokenizer) for pair in pairs]
    for pair, ids in zip(pairs, encode_texts(tokenizer, texts, context.prompt.special_tokens), strict=True):
        counts.setdefault(pair.langs, Counter()).update(ids)


def _shares(by_langs: Counts) -> dict[int, float]:
    shares: dict[int, float] = {}
    counts = [by_langs[langs] for langs in sorted(by_langs) if by_langs[langs]]
    for counter in counts:
        total = counter.total()
        for token in sorted(counter):
            shares[token] = shares.get(token, 0.0) + counter[token] / total / len(counts)
    return shares


def _prompt_ids(tokenizer: Any, context: CompressionContext) -> frozenset[int]:
    """The ids that all requests of a language pair have in common, examples of few-shot prompts among them."""
    by_langs: dict[str, list[Segment]] = {}
    for pair in context.calibration:
        chosen = by_langs.setdefault(pair.langs, [])
        if len(chosen) < RENDERED_PAIRS:
            chosen.append(pair)
    found: set[int] = set()
    for pairs in by_langs.values():
        texts = [context.prompt.render(pair, tokenizer, context.calibration) for pair in pairs]
        found.update(set.intersection(*map(set, encode_texts(tokenizer, texts, context.prompt.special_tokens))))
    return frozenset(found)
