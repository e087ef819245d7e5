"""What a checkpoint holds, by name: tensors with their shapes and dtypes, and the bytes of the files around them.

The rule that says which weights compression targets lives here, so that the bytes predicted before a trial and the
weights changed during it can't disagree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

DTYPE_BYTES = {
    "BF16": 2,
    "F16": 2,
    "F32": 4,
    "F64": 8,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}

_LAYER = re.compile(r"^(?P<before>.*\blayers\.)(?P<index>\d+)(?P<after>\..+)$")
_LEFTOVER = re.compile(r"\b(rotary_emb\.(inv_freq|cos_cached|sin_cached)|(self_attn|attention|attn)\.(masked_)?bias)$")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored tensor: its safetensors dtype name and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.parameters * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder, read without its weights."""

    tensors: Mapping[str, Tensor]
    """Name -> Tensor, in file order."""
    config: Mapping[str, Any]
    """The parsed config.json."""
    other_bytes: int
    """Bytes of every needed file but the safetensors: config, tokenizer, generation config, index."""
    header_bytes: int
    """Bytes of the safetensors headers."""
    tokenizer_bytes: int = 0
    """Bytes of tokenizer.json, within other_bytes."""
    tokenizer_source_bytes: int = 0
    """Bytes of the tokenizer files that tokenizer.json stands for, within other_bytes."""
    sparse: Mapping[str, int] = field(default_factory=dict)
    """Stem of a weight that is stored as a mask and the values that stay -> its columns."""
    linears: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Stem of a targeted weight that is stored packed or sparse -> its shape (output, input). Empty where no weight
    is."""

    @property
    def bytes(self) -> int:
        """Bytes of all files needed to run."""
        return sum(tensor.bytes for tensor in self.tensors.values()) + self.header_bytes + self.other_bytes

    @property
    def parameters(self) -> int:
        """How many numbers its tensors stand for."""
        return sum(tensor.parameters for tensor in self.tensors.values())

    @property
    def layers(self) -> int:
        """How many decoder layers the tensors name."""
        return len({index for name in self.tensors if (index := layer_of(name)) is not None})

    def targets(self) -> dict[str, Tensor]:
        """The linear weights of the decoder layers: what quantizers change."""
        return {name: tensor for name, tensor in self.tensors.items() if is_target(name, tensor)}

    def linear_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Stem of each linear weight of the decoder layers, however it is stored -> its shape (output, input)."""
        dense = {name.removesuffix(".weight"): tensor.shape for name, tensor in self.targets().items()}
        return self.linears or dense


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that describes the decoder: the whole, or its `text_config`."""
    inner: Mapping[str, Any] = config.get("text_config", config)
    return inner


def is_embedding(name: str) -> bool:
    """Whether a tensor is the token embeddings or the output head."""
    return name.endswith(("embed_tokens.weight", "lm_head.weight"))


def is_head(name: str) -> bool:
    """Whether a tensor is the output head's own weight."""
    return name.endswith("lm_head.weight")


@lru_cache(maxsize=1 << 16)
def layer_of(name: str) -> int | None:
    """The decoder layer that a tensor belongs to, or None for embeddings, the final norm and the head."""
    match = _LAYER.match(name)
    return int(match["index"]) if match else None


def renumber_layer(name: str, index: int) -> str:
    """The tensor's name with its layer number replaced; raises ValueError when it names no layer."""
    match = _LAYER.match(name)
    if match is None:
        raise ValueError(f"{name} belongs to no decoder layer")
    return f"{match['before']}{index}{match['after']}"


def is_target(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a linear weight of a decoder layer: two dimensions, and named `….layers.N.….weight`."""
    return layer_of(name) is not None and name.endswith(".weight") and len(tensor.shape) == 2


def is_leftover(name: str) -> bool:
    """Whether a tensor is one that old checkpoints carry and models work out for themselves: rotary tables, masks."""
    return _LEFTOVER.search(name) is not None


def header_size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of one safetensors header over these tensors (https://huggingface.co/docs/safetensors, format)."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        entries[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.bytes],
        }
        offset += tensor.bytes
    return 8 + math.ceil(len(json.dumps(entries, separators=(",", ":"))) / 8) * 8
