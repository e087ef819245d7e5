"""What each pruner makes of a checkpoint's tensor table: the effects that `size` adds up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.errors import CandidateError
from search_spaces.sizes.quantized import with_tensors
from search_spaces.sizes.tensor_table import Checkpoint, Tensor, is_target, layer_of, text_config

if TYPE_CHECKING:
    from search_spaces.methods.pruners import RemoveChannels, RemoveHeads, RemoveLayers, Sparsifier, TrimVocabulary

# Frequent tokens are short, so a tokenizer.json shrinks a little faster than its vocabulary. Measured on the shipped
# model's: 0.728, 0.467 and 0.215 of its bytes are left with 0.75, 0.5 and 0.25 of its tokens.
TOKENIZER_POWER = 1.1

QUERY = re.compile(r"self_attn\.q_proj\.(weight|bias)$")
KEY_VALUE = re.compile(r"self_attn\.[kv]_proj\.(weight|bias)$")
ATTENTION_OUT = re.compile(r"self_attn\.o_proj\.weight$")
MLP_IN = re.compile(r"mlp\.(gate|up)_proj\.(weight|bias)$")
MLP_OUT = re.compile(r"mlp\.down_proj\.weight$")
TOKEN_ROWS = re.compile(r"(embed_tokens\.weight|lm_head\.(weight|bias))$")
OTHER_TOKEN_ROWS = re.compile(r"embed_tokens_per_layer\.weight$")


def after_remove_layers(checkpoint: Checkpoint, step: RemoveLayers) -> Checkpoint:
    """So many layers fewer; which ones is known only after calibration, so layers are taken as alike in size."""
    layers = checkpoint.layers
    left = layers - step.count
    if left < 1:
        raise CandidateError(
            f"remove_layers.count={step.count} leaves none of the model's {layers} layers; remove fewer"
        )
    kept = {
        name: tensor for name, tensor in checkpoint.tensors.items() if (index := layer_of(name)) is None or index < left
    }
    config = with_text(checkpoint, num_hidden_layers=left)
    return replace(with_tensors(checkpoint, kept, 0), config=config)


def after_remove_heads(checkpoint: Checkpoint, step: RemoveHeads) -> Checkpoint:
    """Rows of q, k and v and columns of o fewer, in every layer."""
    heads, groups, size = head_shape(checkpoint)
    left = groups - step.groups
    if left < 1:
        raise CandidateError(
            f"remove_heads.groups={step.groups} leaves none of the model's {groups} key-value groups; remove fewer"
        )
    queries = heads // groups * left
    hidden = text_config(checkpoint.config)["hidden_size"]
    if hidden % queries:
        raise CandidateError(
            f"remove_heads.groups={step.groups} leaves {queries} heads, which do not divide the hidden size {hidden}: "
            "transformers would not load that; choose another number"
        )
    shapes: list[tuple[re.Pattern[str], Callable[[tuple[int, ...]], tuple[int, ...]]]] = [
        (QUERY, lambda shape: (queries * size, *shape[1:])),
        (KEY_VALUE, lambda shape: (left * size, *shape[1:])),
        (ATTENTION_OUT, lambda shape: (shape[0], queries * size)),
    ]
    config = with_text(checkpoint, num_attention_heads=queries, num_key_value_heads=left, head_dim=size)
    return replace(_reshaped(checkpoint, step.name, shapes), config=config)


def after_remove_channels(checkpoint: Checkpoint, step: RemoveChannels) -> Checkpoint:
    """Rows of gate and up and columns of down fewer, in every layer."""
    width = text_config(checkpoint.config).get("intermediate_size")
    if not isinstance(width, int):
        raise CandidateError("remove_channels needs a model whose config.json has one intermediate_size")
    kept = step.kept(width)
    shapes: list[tuple[re.Pattern[str], Callable[[tuple[int, ...]], tuple[int, ...]]]] = [
        (MLP_IN, lambda shape: (kept, *shape[1:])),
        (MLP_OUT, lambda shape: (shape[0], kept)),
    ]
    config = with_text(checkpoint, intermediate_size=kept)
    return replace(_reshaped(checkpoint, step.name, shapes), config=config)


def after_trim_vocabulary(checkpoint: Checkpoint, step: TrimVocabulary) -> Checkpoint:
    """Rows of embeddings and head fewer, and a shorter tokenizer.json; its source files go."""
    rows = {tensor.shape[0] for name, tensor in checkpoint.tensors.items() if has_a_row_a_token(name)}
    if len(rows) != 1 or not checkpoint.tokenizer_bytes:
        raise CandidateError(
            f"trim_vocabulary needs a tokenizer.json, and embeddings and head of as many rows; the model has "
            f"{checkpoint.tokenizer_bytes} bytes of it and tables of {sorted(rows)} rows. Leave the step out"
        )
    if other := [name for name in checkpoint.tensors if OTHER_TOKEN_ROWS.search(name)]:
        raise CandidateError(f"trim_vocabulary can't trim {other[0]}, which also has rows by token; leave it out")
    before = rows.pop()
    if step.tokens >= before:
        raise CandidateError(
            f"trim_vocabulary.tokens={step.tokens} keeps no fewer than the model's {before} tokens; keep fewer"
        )
    tensors = {
        name: Tensor(tensor.dtype, (step.tokens, *tensor.shape[1:])) if has_a_row_a_token(name) else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    tokenizer = round(checkpoint.tokenizer_bytes * (step.tokens / before) ** TOKENIZER_POWER)
    less = checkpoint.tokenizer_bytes - tokenizer + checkpoint.tokenizer_source_bytes
    trimmed = with_tensors(checkpoint, tensors, -less)
    config = with_text(checkpoint, vocab_size=step.tokens)
    return replace(trimmed, tokenizer_bytes=tokenizer, tokenizer_source_bytes=0, config=config)


def has_a_row_a_token(name: str) -> bool:
    """Whether a tensor is the embeddings, the head or the head's bias: its first dimension is the vocabulary."""
    return TOKEN_ROWS.search(name) is not None


def after_sparsifier(checkpoint: Checkpoint, step: Sparsifier) -> Checkpoint:
    """For every targeted weight a mask of a bit a weight, the weights that stay, and the shape."""
    tensors: dict[str, Tensor] = {}
    sparse: dict[str, int] = {}
    for name, tensor in checkpoint.tensors.items():
        if not is_target(name, tensor):
            tensors[name] = tensor
            continue
        rows, columns = tensor.shape
        if step.pattern == "2:4" and columns % 4:
            raise CandidateError(f"{step.name}: 2:4 needs columns in fours; {name} has {columns}")
        stem = name.removesuffix(".weight")
        sparse[stem] = columns
        tensors[f"{stem}.weight_mask"] = Tensor("U8", (rows, math.ceil(columns / 8)))
        tensors[f"{stem}.weight_values"] = Tensor(tensor.dtype, (rows, step.kept(columns)))
        tensors[f"{stem}.weight_shape"] = Tensor("I64", (2,))
    return replace(with_tensors(checkpoint, tensors, 0), sparse=sparse)


def head_shape(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """(query heads, key-value groups, width of a head) as config.json says; raises CandidateError where it does not."""
    config = text_config(checkpoint.config)
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if not isinstance(heads, int) or not isinstance(hidden, int):
        raise CandidateError("remove_heads needs a model whose config.json has num_attention_heads and hidden_size")
    groups = config.get("num_key_value_heads") or heads
    return heads, groups, config.get("head_dim") or hidden // heads


def _reshaped(
    checkpoint: Checkpoint,
    method: str,
    shapes: list[tuple[re.Pattern[str], Callable[[tuple[int, ...]], tuple[int, ...]]]],
) -> Checkpoint:
    tensors = dict(checkpoint.tensors)
    for pattern, shape in shapes:
        names = [name for name in tensors if layer_of(name) is not None and pattern.search(name)]
        if not names:
            raise CandidateError(
                f"{method}: the model has no tensors named {pattern.pattern}, as Llama, Mistral, Gemma and Qwen do"
            )
        tensors.update({name: Tensor(tensors[name].dtype, shape(tensors[name].shape)) for name in names})
    return with_tensors(checkpoint, tensors, 0)


def with_text(checkpoint: Checkpoint, **changes: int) -> dict[str, object]:
    """The checkpoint's config.json with these changes in the part that describes the decoder."""
    config = dict(checkpoint.config)
    if "text_config" in config:
        return {**config, "text_config": {**config["text_config"], **changes}}
    return {**config, **changes}
