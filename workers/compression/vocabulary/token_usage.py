"""Which tokens the calibration data use, and the texts left out that a trimmed vocabulary is checked on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.errors import StudyError
from workers.calibration.pair_parts import MEASURING_SHARE, parts
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment

# Pairs of a language pair whose prompts are compared: what all of them have is the prompt's own.
RENDERED_PAIRS = 16
TEXTS_AT_A_TIME = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """Which tokens the calibration texts use, and texts to check a trimmed tokenizer on."""

    weights: Mapping[int, float]
    """Token id -> its share of the tokens; every language pair weighs alike."""
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
    counts = Counter(token for ids in encode_texts(tokenizer, counted, True) for token in ids)
    return Usage(_shares([counts]), prompt, tuple(lines[MEASURING_SHARE - 1 :: MEASURING_SHARE]), True, 0)


def _of_pairs(tokenizer: Any, context: CompressionContext, prompt: frozenset[int]) -> Usage:
    special = context.prompt.special_tokens
    counted, measuring = parts(context.calibration, context.seed)
    counts: dict[str, Counter[int]] = {}
    texts = [context.prompt.answered(pair, tokenizer) for pair in counted]
    for pair, ids in zip(counted, encode_texts(tokenizer, texts, special), strict=True):
        counts.setdefault(pair.langs, Counter()).update(ids)
    without_source = [context.prompt.render(replace(pair, source=""), tokenizer, ()) for pair in measuring]
    return Usage(
        weights=_shares([counts[langs] for langs in sorted(counts)]),
        prompt=prompt,
        held_out=tuple(context.prompt.answered(pair, tokenizer) for pair in measuring),
        special_tokens=special,
        prompt_tokens=sum(len(ids) for ids in encode_texts(tokenizer, without_source, special)),
    )


def _shares(counts: Sequence[Counter[int]]) -> dict[int, float]:
    shares: dict[int, float] = {}
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
