"""The token ids in config.json, generation_config.json and the tokenizer's small files: which of them the model can't
do without, and the files rewritten for ids that were renumbered.

The keys are those of transformers' PreTrainedConfig and GenerationConfig
(https://huggingface.co/docs/transformers/main_classes/text_generation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# bos, eos, pad, decoder_start, forced_bos, image and their like: an id, or a list of ids.
ROLES = re.compile(r"(_token_ids?|_token_index)$|^force_words_ids$")
SUPPRESSED_TOKENS = frozenset({"suppress_tokens", "begin_suppress_tokens"})
SUPPRESSED_WORDS = "bad_words_ids"
BIASED_WORDS = "sequence_bias"
DECODER = "text_config"


def ids_with_a_role(config: Mapping[str, Any]) -> set[int]:
    """Every id the (generation) config gives a role, such as `eos_token_id`; those it suppresses have none."""
    found: set[int] = set()
    for key, value in config.items():
        if key == DECODER:
            found |= ids_with_a_role(value)
        elif ROLES.search(key):
            found.update(_ids(value))
    return found


def renumbered_config(config: Mapping[str, Any], new_ids: Mapping[int, int], size: int) -> dict[str, Any]:
    """The config (or generation config) for a vocabulary of `size` rows. new_ids: old id -> new id of what stays.

    Words that can't be generated any more need no suppression and no bias. An id that has no row, such as a pad of -1,
    is left as it is.
    """
    return {key: _renumbered(key, value, new_ids, size) for key, value in config.items()}


def renumbered_tokenizer_config(config: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """tokenizer_config.json with the keys of `added_tokens_decoder` renumbered."""
    added = config.get("added_tokens_decoder")
    if added is None:
        return dict(config)
    kept = {str(new_ids[int(old)]): token for old, token in added.items() if int(old) in new_ids}
    return {**config, "added_tokens_decoder": kept}


def renumbered_added_tokens(tokens: Mapping[str, int], new_ids: Mapping[int, int]) -> dict[str, int]:
    """added_tokens.json (token -> id) renumbered."""
    return {token: new_ids[old] for token, old in tokens.items() if old in new_ids}


def _renumbered(key: str, value: Any, new_ids: Mapping[int, int], size: int) -> Any:
    if key == DECODER:
        return renumbered_config(value, new_ids, size)
    if key == "vocab_size":
        return size
    if value is None:
        return None
    if ROLES.search(key):
        return _mapped(value, new_ids)
    # transformers refuses an empty list of words, so that none is written as null.
    if key in SUPPRESSED_TOKENS:
        return [new_ids[token] for token in value if token in new_ids] or None
    if key == SUPPRESSED_WORDS:
        return [_mapped(word, new_ids) for word in value if new_ids.keys() >= set(word)] or None
    if key == BIASED_WORDS:
        return [[_mapped(word, new_ids), bias] for word, bias in value if new_ids.keys() >= set(word)] or None
    return value


def _mapped(value: Any, new_ids: Mapping[int, int]) -> Any:
    if isinstance(value, list):
        return [_mapped(item, new_ids) for item in value]
    return new_ids.get(value, value) if isinstance(value, int) else value


def _ids(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _ids(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value
