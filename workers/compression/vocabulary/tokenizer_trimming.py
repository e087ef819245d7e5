"""Rewriting tokenizer.json for the tokens that stay: vocabulary, merges, and every id elsewhere in the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from workers.compression.vocabulary.tokenizer_model import merge_parts

Spec = Mapping[str, Any]


def trimmed_tokenizer(spec: Spec, new_ids: Mapping[int, int]) -> dict[str, Any]:
    """A parsed tokenizer.json with only the tokens of `new_ids` (old id -> new id, both in one order).

    A merge stays where its two parts and its result do, so that text of kept tokens alone is merged as before.
    """
    model = spec["model"]
    return {
        **spec,
        "padding": _padding(spec.get("padding"), new_ids),
        "added_tokens": [
            {**token, "id": new_ids[token["id"]]} for token in spec["added_tokens"] if token["id"] in new_ids
        ],
        "post_processor": _post_processor(spec.get("post_processor"), new_ids),
        "model": {**model, **_MODELS[model["type"]](model, new_ids)},
    }


def ids_with_a_place(spec: Spec) -> set[int]:
    """The ids that tokenizer.json itself puts into sequences: of templates, of padding, for unknown text."""
    found = set(_template_ids(spec.get("post_processor")))
    if spec.get("padding"):
        found.add(spec["padding"]["pad_id"])
    model = spec["model"]
    if model.get("unk_id") is not None:
        found.add(model["unk_id"])
    if model.get("unk_token") in model["vocab"]:
        found.add(model["vocab"][model["unk_token"]])
    return found


def in_the_form_of(text: str, value: Any) -> str:
    """The value as JSON in the form of `text`: indented or on one line, so that bytes go with tokens alone."""
    if "\n" in text.strip():
        return json.dumps(value, ensure_ascii=text.isascii(), indent=2)
    return json.dumps(value, ensure_ascii=text.isascii(), separators=(",", ":"))


def _bpe(model: Spec, new_ids: Mapping[int, int]) -> dict[str, Any]:
    kept = _by_id(model["vocab"], new_ids)
    merges = []
    for merge in model["merges"]:
        left, right = merge_parts(merge)
        if left in kept and right in kept and left + right in kept:
            merges.append(merge)
    return {"vocab": kept, "merges": merges}


def _unigram(model: Spec, new_ids: Mapping[int, int]) -> dict[str, Any]:
    unknown = model.get("unk_id")
    return {
        "vocab": [entry for old, entry in enumerate(model["vocab"]) if old in new_ids],
        "unk_id": None if unknown is None else new_ids[unknown],
    }


def _word_level(model: Spec, new_ids: Mapping[int, int]) -> dict[str, Any]:
    return {"vocab": _by_id(model["vocab"], new_ids)}


_MODELS: dict[str, Callable[[Spec, Mapping[int, int]], dict[str, Any]]] = {
    "BPE": _bpe,
    "Unigram": _unigram,
    "WordLevel": _word_level,
}


def _by_id(vocabulary: Mapping[str, int], new_ids: Mapping[int, int]) -> dict[str, int]:
    """The kept tokens in the order of their ids, which some classes of transformers count anew."""
    kept = {token: new_ids[old] for token, old in vocabulary.items() if old in new_ids}
    return dict(sorted(kept.items(), key=lambda item: item[1]))


def _padding(padding: Any, new_ids: Mapping[int, int]) -> Any:
    return padding and {**padding, "pad_id": new_ids[padding["pad_id"]]}


def _post_processor(processor: Any, new_ids: Mapping[int, int]) -> Any:
    if processor is None:
        return None
    changed = dict(processor)
    if "processors" in processor:
        changed["processors"] = [_post_processor(part, new_ids) for part in processor["processors"]]
    if processor["type"] == "TemplateProcessing":
        changed["special_tokens"] = {
            name: {**token, "ids": [new_ids[old] for old in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for end in ("sep", "cls"):
        if end in processor:
            token, old = processor[end]
            changed[end] = [token, new_ids[old]]
    return changed


def _template_ids(processor: Any) -> list[int]:
    if processor is None:
        return []
    found = [old for part in processor.get("processors", []) for old in _template_ids(part)]
    if processor["type"] == "TemplateProcessing":
        found += [old for token in processor["special_tokens"].values() for old in token["ids"]]
    return found + [processor[end][1] for end in ("sep", "cls") if end in processor]
