"""A smaller student, cut out of its parent: fewer layers, fewer channels of the residual stream and of the MLPs.

Norms keep their weights: what an RMSNorm of fewer channels divides by is a little other, and training sees to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import CandidateError
from search_spaces.methods.trainers import Distill
from search_spaces.sizes.student_shape import StudentShape, read_student_config, student_shape
from search_spaces.sizes.tensor_table import layer_of, renumber_layer, text_config
from search_spaces.sizes.trained import student_tensors
from workers.checkpoints.model_files import read_checkpoint
from workers.checkpoints.tensor_files import FLOATS
from workers.compression.pruning.narrowing import stored_tensor
from workers.compression.pruning.remove_layers import shallower_config
from workers.compression.scale_folding import ONE_PLUS_WEIGHT
from workers.loading.load import is_bitsandbytes
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.checkpoint import copy_small_files, packed_stems, write_config, write_tensors
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.model_forms.importance import DOWN, Important, important

EMBEDDINGS, HEAD = "embed_tokens.weight", "lm_head.weight"
# What each axis of a tensor goes by, by the end of its name; other tensors of one dimension go by the residual stream.
AXES: dict[str, tuple[str, ...]] = {
    EMBEDDINGS: ("vocabulary", "hidden"),
    HEAD: ("vocabulary", "hidden"),
    "self_attn.q_proj.weight": ("queries", "hidden"),
    "self_attn.q_proj.bias": ("queries",),
    "self_attn.k_proj.weight": ("keys", "hidden"),
    "self_attn.k_proj.bias": ("keys",),
    "self_attn.v_proj.weight": ("keys", "hidden"),
    "self_attn.v_proj.bias": ("keys",),
    "self_attn.o_proj.weight": ("hidden", "queries"),
    "self_attn.q_norm.weight": ("head",),
    "self_attn.k_norm.weight": ("head",),
    "mlp.gate_proj.weight": ("channels", "hidden"),
    "mlp.gate_proj.bias": ("channels",),
    "mlp.up_proj.weight": ("channels", "hidden"),
    "mlp.up_proj.bias": ("channels",),
    DOWN: ("hidden", "channels"),
}
# Settings of the parent's that a student's own config need not say.
INHERITED = ("dtype", "torch_dtype", "prompt_family", "bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, slots=True)
class Student:
    """A written student. layers: student layer -> the parent's that it comes from. notes: facts for the record."""

    layers: dict[int, int]
    notes: tuple[str, ...]


def write_student(
    parent: Path, out: Path, step: Distill, pairs: TokenizedPairs, context: CompressionContext
) -> Student:
    """Write the student that training starts from to the empty folder, a plain checkpoint in the parent's types.

    Layers are spread evenly over the parent's, the first and the last among them; channels go by importance
    (`importance`). Of a given config, a tensor is copied where shapes are equal, cut where the parent's is larger, and
    otherwise drawn from N(0, initializer_range²) with the study's seed. Raises CandidateError for a shape or a tensor
    that is not known.
    """
    before = read_checkpoint(parent)
    if packed_stems(before.tensors) or is_bitsandbytes(parent):
        raise CandidateError(f"distill: {parent} has packed or sparse weights, and no student can be cut out of these")
    shape = student_shape(before, step)
    whole = text_config(before.config)
    layers = _spread(shape.layers, before.layers)
    hidden, channels = (size if size < int(whole[key]) else 0 for key, size in _widths(shape).items())
    kept = important(parent, hidden, channels=channels, pairs=pairs, batch=step.batch, context=context)
    cutter = _Cutter(parent, kept, _same_heads(shape, whole))
    config = _config(before.config, step, shape, list(layers.values()))
    std = float(text_config(config).get("initializer_range", 0.02))
    generator = torch.Generator().manual_seed(context.seed)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in student_tensors(before, shape).items():
            source = _source(name, layers, before.tensors)
            found = cutter.cut(source, tensor.shape) if source is not None else None
            if found is None:
                cutter.counts["random"] += 1
                found = _drawn(name, tensor.shape, std, config, generator)
            yield name, found.to(FLOATS[tensor.dtype])

    write_tensors(out, tensors())
    copy_small_files(parent, out)
    write_config(out, config)
    return Student(layers, (_described(before.layers, layers, whole, shape, cutter.counts), *kept.notes))


@dataclass(slots=True)
class _Cutter:
    """Tensors of the parent, cut to a student's sizes. same_heads: whether heads are as wide and shared as the
    parent's, so that the first of them can be taken."""

    parent: Path
    important: Important
    same_heads: bool
    counts: Counter[str] = field(default_factory=Counter)

    def cut(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | None:
        """The tensor at this shape; None where it can't be cut to it."""
        tensor = stored_tensor(self.parent, name, torch.device("cpu"))
        if tensor.shape == shape:
            self.counts["copied"] += 1
            return tensor
        axes = _axes(name, tensor)
        layer = layer_of(name)
        if name.endswith(DOWN) and layer in self.important.down and shape[1] < tensor.shape[1]:
            tensor = self.important.down[layer]
        for axis, size in enumerate(shape):
            if tensor.shape[axis] == size:
                continue
            kept = self._kept(axes[axis], layer, size)
            if tensor.shape[axis] < size or kept is None:
                return None
            tensor = tensor.index_select(axis, kept)
        self.counts["cut"] += 1
        return tensor

    def _kept(self, axis: str, layer: int | None, size: int) -> torch.Tensor | None:
        if axis == "hidden":
            return self.important.hidden
        if axis == "channels" and layer is not None:
            return self.important.channels.get(layer)
        return torch.arange(size) if axis in ("queries", "keys") and self.same_heads else None


def _axes(name: str, tensor: torch.Tensor) -> tuple[str, ...]:
    for end, axes in AXES.items():
        if name.endswith(end):
            return axes
    if tensor.ndim == 1:
        return ("hidden",)
    raise CandidateError(f"distill: {name} of shape {list(tensor.shape)} is a tensor that can't be cut here")


def _spread(kept: int, layers: int) -> dict[int, int]:
    """Student layer -> the parent's: spread evenly, the first and the last among them; a deeper student has all."""
    if kept > layers:
        return {layer: layer for layer in range(layers)}
    return {layer: round(layer * (layers - 1) / max(kept - 1, 1)) for layer in range(kept)}


def _source(name: str, layers: Mapping[int, int], tensors: Mapping[str, Any]) -> str | None:
    """The parent's tensor that the student's comes from; None where there is none."""
    layer = layer_of(name)
    if layer is not None:
        return renumber_layer(name, layers[layer]) if layer in layers else None
    if name in tensors:
        return name
    # An untied head begins as the embeddings it was tied to.
    return next((other for other in tensors if name.endswith(HEAD) and other.endswith(EMBEDDINGS)), None)


def _widths(shape: StudentShape) -> dict[str, int]:
    return {"hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size}


def _same_heads(shape: StudentShape, whole: Mapping[str, Any]) -> bool:
    heads = int(whole["num_attention_heads"])
    groups = int(whole.get("num_key_value_heads") or heads)
    width = int(whole.get("head_dim") or whole["hidden_size"] // heads)
    return width == shape.head_dim and heads * shape.key_value_heads == groups * shape.heads


def _config(parent: Mapping[str, Any], step: Distill, shape: StudentShape, layers: list[int]) -> dict[str, Any]:
    if step.config:
        given = read_student_config(step.config)
        inherited = {key: parent[key] for key in INHERITED if key in parent}
        # Else transformers would take its class's default, and not the parent's.
        tied = {} if "tie_word_embeddings" in text_config(given) else {"tie_word_embeddings": shape.tied}
        return {**inherited, **tied, **given}
    config = shallower_config(dict(parent), layers)
    sizes = {
        **_widths(shape),
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_dim,
    }
    if "text_config" in config:
        return {**config, "text_config": {**config["text_config"], **sizes}}
    return {**config, **sizes}


def _drawn(
    name: str, shape: tuple[int, ...], std: float, config: Mapping[str, Any], generator: torch.Generator
) -> torch.Tensor:
    """A new tensor: normal for weights, 0 for biases, and for norms what makes them multiply by 1."""
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * std
    if name.endswith("bias") or text_config(config).get("model_type") in ONE_PLUS_WEIGHT:
        return torch.zeros(shape)
    return torch.ones(shape)


def _described(
    depth: int, layers: Mapping[int, int], whole: Mapping[str, Any], shape: StudentShape, counts: Counter[str]
) -> str:
    said = [f"{shape.layers} of {depth} layers ({', '.join(map(str, layers.values()))})"]
    for key, size in _widths(shape).items():
        if size != whole[key]:
            said.append(f"{key} {whole[key]} -> {size}")
    done = ", ".join(f"{counts[kind]} {kind}" for kind in ("copied", "cut", "random") if counts[kind])
    return f"student: {', '.join(said)}; tensors: {done}"
