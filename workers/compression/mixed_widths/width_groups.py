"""The groups of weights that share a width, the widths that each may have, and the bytes that each width takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from search_spaces.methods.quantizers import MixedWidths
from search_spaces.parameters import WIDTHS
from search_spaces.sizes.quantized import EMBEDDINGS_CONFIG_BYTES, packed_tensors, refuse_uneven_groups
from search_spaces.sizes.tensor_table import Checkpoint, header_size, is_embedding, layer_of
from workers.calibration.statistics import Statistics

EMBEDDINGS = "embeddings"
AS_IS = 16
EMBEDDING_WIDTHS = (AS_IS, 8, 4)


@dataclass(frozen=True, slots=True)
class WidthGroup:
    """Weights that have one width. name: the first one's, or EMBEDDINGS. bytes: width -> bytes, widths falling."""

    name: str
    weights: tuple[str, ...]
    bytes: Mapping[int, int]

    @property
    def is_embeddings(self) -> bool:
        return self.name == EMBEDDINGS


def width_groups(checkpoint: Checkpoint, statistics: Statistics, step: MixedWidths) -> list[WidthGroup]:
    """The decoder layers' linear weights, those that read one input together, layer by layer; the embeddings last.

    step: whose groups and zero points they have.

    Raises CandidateError for a group size that does not divide a weight's columns.
    """
    stored = _linear(checkpoint)
    made: list[WidthGroup] = []
    taken: set[str] = set()
    for name in sorted(stored, key=lambda name: layer_of(name) or 0):
        if name in taken:
            continue
        together = [name, *(statistics.shares_input(name) if name in statistics.keys else ())]
        weights = tuple(weight for weight in dict.fromkeys(together) if weight in stored)
        taken.update(weights)
        sizes = {
            bits: sum(
                _packed(weight, stored[weight], bits, step.group_size, step.symmetric_at(bits))[0] for weight in weights
            )
            for bits in WIDTHS
        }
        made.append(WidthGroup(name, weights, sizes))
    return [*made, _embeddings(checkpoint, step.group_size)]


def parameter(model: Any, weight: str) -> torch.nn.Parameter:
    """The model's parameter that a checkpoint's weight is loaded into."""
    layer = layer_of(weight)
    if layer is None:
        module = model.get_output_embeddings() if "lm_head" in weight else model.get_input_embeddings()
        found: torch.nn.Parameter = module.weight
    else:
        found = model.get_decoder().layers[layer].get_parameter(weight.split(f"layers.{layer}.", 1)[1])
    return found


def _linear(checkpoint: Checkpoint) -> dict[str, tuple[int, int, int | None]]:
    """Weight name -> rows, columns and, of a sparse weight, how many of a row are kept."""
    found: dict[str, tuple[int, int, int | None]] = {}
    for name, tensor in checkpoint.targets().items():
        found[name] = (tensor.shape[0], tensor.shape[1], None)
    for stem, columns in checkpoint.sparse.items():
        rows, kept = checkpoint.tensors[f"{stem}.weight_values"].shape
        found[f"{stem}.weight"] = (rows, columns, kept)
    return found


def _embeddings(checkpoint: Checkpoint, group_size: int) -> WidthGroup:
    stored = {name: tensor for name, tensor in checkpoint.tensors.items() if is_embedding(name)}
    sizes = {AS_IS: sum(tensor.bytes for tensor in stored.values())}
    for bits in EMBEDDING_WIDTHS[1:]:
        packed = [
            _packed(name, (tensor.shape[0], tensor.shape[1], None), bits, group_size, symmetric=True)
            for name, tensor in stored.items()
        ]
        header = sum(header for _, header in packed) - header_size(stored)
        sizes[bits] = sum(size for size, _ in packed) + header + EMBEDDINGS_CONFIG_BYTES
    return WidthGroup(EMBEDDINGS, tuple(stored), sizes)


def _packed(
    weight: str, shape: tuple[int, int, int | None], bits: int, group_size: int, symmetric: bool
) -> tuple[int, int]:
    """Bytes of one packed weight's tensors, and of a header over them."""
    rows, columns, kept = shape
    refuse_uneven_groups(MixedWidths.name, weight, columns, group_size)
    tensors = dict(
        packed_tensors(
            weight.removesuffix(".weight"),
            rows,
            columns=columns,
            bits=bits,
            group_size=group_size,
            symmetric=symmetric,
            kept=kept,
        )
    )
    return sum(tensor.bytes for tensor in tensors.values()), header_size(tensors)
