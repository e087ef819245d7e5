"""What a tokenizer's model needs of its tokens: the alphabet that spells any text, and the pieces a token is merged of.

The models are those of https://huggingface.co/docs/tokenizers/api/models, as tokenizer.json has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from search_spaces.errors import ModelFilesError

BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
SPACE = "▁"


@dataclass(frozen=True, slots=True)
class TokenModel:
    """alphabet: the tokens without which some text could not be spelt. by_generality: every token of the model, the
    most general first. pieces: token -> the tokens it is built from by merging, itself among them."""

    alphabet: frozenset[str]
    by_generality: tuple[str, ...]
    pieces: Callable[[str], frozenset[str]]


def read_token_model(spec: Mapping[str, Any]) -> TokenModel:
    """The model of a parsed tokenizer.json; raises ModelFilesError for a type that can't be trimmed."""
    model = spec["model"]
    kind = model.get("type")
    if kind not in _READERS:
        raise ModelFilesError(
            f"trim_vocabulary knows tokenizers of the types {', '.join(_READERS)}; this tokenizer.json has {kind!r}. "
            "Leave the step out"
        )
    return _READERS[kind](spec, model)


def merge_parts(merge: str | list[str]) -> tuple[str, str]:
    """The two parts of a merge, which tokenizer.json has as "a b" or as ["a", "b"]."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def derivation(token: str, ranks: Mapping[tuple[str, str], int], vocabulary: Container[str]) -> frozenset[str]:
    """The tokens that BPE passes through from the token's characters to the token, both ends among them.

    A token that no merges lead to stands for itself: it is found whole or never. Within any text that ends up with
    this token, the same merges are made, as none reaches over the token's ends.
    """
    parts = list(token)
    if any(part not in vocabulary for part in parts):
        return frozenset({token})
    made = set(parts)
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, math.inf), position) for position, pair in enumerate(pairwise(parts)))
        if rank == math.inf:
            return frozenset({token})
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        made.add(parts[at])
    return frozenset(made)


def _bpe(spec: Mapping[str, Any], model: Mapping[str, Any]) -> TokenModel:
    for field in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(field):
            raise ModelFilesError(f"trim_vocabulary knows no BPE with a {field} ({model[field]!r}); leave the step out")
    vocabulary: dict[str, int] = model["vocab"]
    ranks: dict[tuple[str, str], int] = {}
    first: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge_parts(merge)
        ranks[left, right] = rank
        first.setdefault(left + right, rank)
    order = sorted(vocabulary, key=lambda token: (first.get(token, math.inf), vocabulary[token]))
    pieces = partial(derivation, ranks=ranks, vocabulary=vocabulary)
    return TokenModel(_alphabet(spec, model, frozenset(vocabulary)), tuple(order), pieces)


def _unigram(spec: Mapping[str, Any], model: Mapping[str, Any]) -> TokenModel:
    scores: dict[str, float] = dict(model["vocab"])
    # A character outside the vocabulary costs the least score less a constant, so that piece decides paths as well.
    least = min(scores, key=lambda token: scores[token])
    alphabet = _alphabet(spec, model, frozenset(scores)) | {least}
    order = sorted(scores, key=lambda token: -scores[token])
    return TokenModel(alphabet, tuple(order), lambda token: frozenset({token}))


def _word_level(spec: Mapping[str, Any], model: Mapping[str, Any]) -> TokenModel:
    vocabulary: dict[str, int] = model["vocab"]
    order = sorted(vocabulary, key=lambda token: vocabulary[token])
    return TokenModel(frozenset(), tuple(order), lambda token: frozenset({token}))


_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], TokenModel]] = {
    "BPE": _bpe,
    "Unigram": _unigram,
    "WordLevel": _word_level,
}


def _alphabet(spec: Mapping[str, Any], model: Mapping[str, Any], vocabulary: frozenset[str]) -> frozenset[str]:
    """The 256 symbols of byte-level text; else the 256 byte tokens and the mark for a space; else, where nothing falls
    back to bytes, every single character."""
    from tokenizers.pre_tokenizers import ByteLevel

    if _names(spec.get("pre_tokenizer"), "ByteLevel") or _names(spec.get("normalizer"), "ByteLevel"):
        return frozenset(ByteLevel.alphabet()) & vocabulary
    if model.get("byte_fallback") and vocabulary >= BYTES:
        # Spelt as bytes, the mark would be decoded as itself and not as a space.
        return BYTES | ({SPACE} & vocabulary)
    return frozenset(token for token in vocabulary if len(token) == 1)


def _names(part: Any, kind: str) -> bool:
    """Whether a part of tokenizer.json, or a part of a sequence of them, is of this type."""
    if isinstance(part, dict):
        return part.get("type") == kind or any(_names(value, kind) for value in part.values())
    return isinstance(part, list) and any(_names(item, kind) for item in part)
