"""Where a model's bytes are: embeddings, head, attention, MLP, scales, norms, an adapter, and the files around them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.sizes.tensor_table import Checkpoint, Tensor, layer_of

# In the order in which they are shown.
PARTS = ("embeddings", "attention", "MLP", "head", "scales", "norms and other", "adapter", "files")
# What stands beside integers to make weights of them: scales, zero points, shapes, and bitsandbytes' own state.
_SCALE = re.compile(
    r"\.(weight_scale|weight_zero_point|weight_shape|weight_g_idx|input_scale|SCB|weight_format)$"
    r"|\.weight\.(absmax|nested_absmax|quant_map|nested_quant_map|quant_state\..+)$"
)
_ADAPTER = re.compile(r"\blora_")
_NORM = re.compile(r"norm[^.]*\.(weight|bias)$")
_ATTENTION = re.compile(r"\.(self_attn|attention|attn)\.")
_MLP = re.compile(r"\.(mlp|feed_forward|ffn|block_sparse_moe)\.")


@dataclass(frozen=True, slots=True)
class ByteParts:
    """Where one model's bytes are. parts: part -> bytes, of all `PARTS` that have any. predicted: whether they were
    worked out from the base's table, since the model was not kept."""

    parts: Mapping[str, int]
    predicted: bool = False


def part_of(name: str) -> str:
    """The part, one of `PARTS`, that a tensor belongs to by its name."""
    if _SCALE.search(name):
        return "scales"
    if _ADAPTER.search(name):
        return "adapter"
    if ".embed_tokens." in f".{name}":
        return "embeddings"
    if ".lm_head." in f".{name}":
        return "head"
    if _NORM.search(name) or layer_of(name) is None:
        return "norms and other"
    if _ATTENTION.search(name):
        return "attention"
    return "MLP" if _MLP.search(name) else "norms and other"


def bytes_by_part(tensors: Mapping[str, Tensor], whole: int, adapter: int = 0) -> dict[str, int]:
    """Part -> bytes, of all `PARTS` that have any. whole: bytes of all files needed to run; what no tensor takes is the
    files': headers, config and tokenizer. adapter: of an adapter's files, within `whole`, whose tensors are not among
    these."""
    found = dict.fromkeys(PARTS, 0)
    for name, tensor in tensors.items():
        found[part_of(name)] += tensor.bytes
    found["adapter"] += adapter
    found["files"] = whole - sum(found.values())
    return {part: size for part, size in found.items() if size}


def parts_of(checkpoint: Checkpoint, adapter: int = 0) -> dict[str, int]:
    """The parts of a checkpoint, as it was read or predicted."""
    return bytes_by_part(checkpoint.tensors, checkpoint.bytes, adapter)
