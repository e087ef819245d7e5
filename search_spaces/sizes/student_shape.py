"""The shape of a smaller student: how many layers stay and how wide they are, by one rule for predicting and building.

Head count and the width of a head stay as they are, unless a config says otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import CandidateError
from search_spaces.sizes.tensor_table import Checkpoint, text_config

if TYPE_CHECKING:
    from search_spaces.methods.trainers import Distill

# Widths stay in steps of this many, as the MLP's do when a pruner cuts them.
MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class StudentShape:
    """The sizes of a decoder that decide a student's shape."""

    layers: int
    """How many decoder layers."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Channels of the MLP."""
    heads: int
    """Query heads of the attention."""
    key_value_heads: int
    """Key-value heads of the attention."""
    head_dim: int
    """Width of one attention head."""
    tied: bool
    """Whether the output head is the embeddings."""


def student_shape(checkpoint: Checkpoint, step: Distill) -> StudentShape:
    """The student's shape; raises CandidateError where the model or the step has none that can be loaded.

    The hidden size that stays is a multiple of 32 and of the head count, which transformers wants to divide it; the
    channels that stay are a multiple of 32.
    """
    tied = not any(name.endswith("lm_head.weight") for name in checkpoint.tensors)
    whole = _shape(text_config(checkpoint.config), checkpoint.layers, tied, "the model's config.json")
    found = _from_config(checkpoint, whole, step.config) if step.config else _shrunk(whole, step)
    if found == whole:
        why = f".config: {step.config} has the model's own shape" if step.config else " keeps every layer, all widths"
        raise CandidateError(
            f"distill{why}: that is not a smaller student; give layers, width, channels or a smaller config, or use "
            "finetune"
        )
    return found


def read_student_config(path: str) -> dict[str, Any]:
    """The config.json at this path or in this folder; raises CandidateError where it can't be read."""
    file = Path(path).expanduser()
    file = file / "config.json" if file.is_dir() else file
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CandidateError(f"distill.config: {file} can't be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise CandidateError(f"distill.config: {file} holds no JSON object")
    return config


def _shrunk(whole: StudentShape, step: Distill) -> StudentShape:
    layers = step.layers or whole.layers
    if layers > whole.layers:
        raise CandidateError(f"distill.layers={layers} is more than the model's {whole.layers} layers; keep fewer")
    hidden = _kept("width", whole.hidden_size, step.width, math.lcm(MULTIPLE, whole.heads))
    channels = _kept("channels", whole.intermediate_size, step.channels, MULTIPLE)
    return StudentShape(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=channels,
        heads=whole.heads,
        key_value_heads=whole.key_value_heads,
        head_dim=whole.head_dim,
        tied=whole.tied,
    )


def _kept(name: str, size: int, share: float, multiple: int) -> int:
    if share == 1.0:
        return size
    kept = round(size * share / multiple) * multiple
    if not 0 < kept < size:
        raise CandidateError(
            f"distill.{name}={share} keeps {kept} of {size} (in steps of {multiple}); choose another share"
        )
    return kept


def _from_config(checkpoint: Checkpoint, whole: StudentShape, path: str) -> StudentShape:
    config, parent = read_student_config(path), checkpoint.config
    if config.get("model_type") != parent.get("model_type"):
        raise CandidateError(
            f"distill.config: {path} has model_type {config.get('model_type')!r}, and the model has "
            f"{parent.get('model_type')!r}; a student must be of its teacher's family"
        )
    inner = text_config(config)
    tokens = inner.get("vocab_size"), text_config(parent).get("vocab_size")
    if tokens[0] != tokens[1]:
        raise CandidateError(
            f"distill.config: {path} has a vocabulary of {tokens[0]} tokens, and the model of {tokens[1]}; a student "
            "has its parent's: trim the vocabulary with trim_vocabulary before it"
        )
    layers = inner.get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 1:
        raise CandidateError(f"distill.config: {path} has no num_hidden_layers of at least 1")
    tied = inner.get("tie_word_embeddings", config.get("tie_word_embeddings", whole.tied))
    found = _shape(inner, layers, bool(tied), f"distill.config: {path}")
    if found.hidden_size % found.heads:
        raise CandidateError(
            f"distill.config: {path} has {found.heads} heads, which do not divide the hidden size "
            f"{found.hidden_size}: transformers would not load that; choose another number"
        )
    return found


def _shape(config: Mapping[str, Any], layers: int, tied: bool, what: str) -> StudentShape:
    sizes = [config.get(name) for name in ("hidden_size", "intermediate_size", "num_attention_heads")]
    hidden, channels, heads = (size if isinstance(size, int) else 0 for size in sizes)
    if not (hidden and channels and heads):
        raise CandidateError(
            f"distill needs hidden_size, intermediate_size and num_attention_heads, one of each, and {what} lacks one"
        )
    groups = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or hidden // heads
    return StudentShape(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=channels,
        heads=heads,
        key_value_heads=groups,
        head_dim=width,
        tied=tied,
    )
