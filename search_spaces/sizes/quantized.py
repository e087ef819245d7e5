"""What each quantizer makes of a checkpoint's tensor table: the effects that `size` adds up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.errors import CandidateError
from search_spaces.parameters import WIDTHS
from search_spaces.sizes.tensor_table import Checkpoint, Tensor, header_size, is_embedding, is_target

if TYPE_CHECKING:
    from search_spaces.methods.quantizers import FP8, BitsAndBytes, IntegerQuantizer, MixedWidths, QuantizeEmbeddings

# Bytes that each quantizer adds to config.json, measured on written artefacts.
PACKED_CONFIG_BYTES = 1000
BITSANDBYTES_CONFIG_BYTES = 482
EIGHT_BIT_CONFIG_BYTES = 466
ACTIVATIONS_CONFIG_BYTES = 180
EMBEDDINGS_CONFIG_BYTES = 600
MIXED_CONFIG_BYTES = 650
MIXED_CONFIG_BYTES_A_WEIGHT = 4
BUDGETED_EMBEDDINGS = 8
FOUR_BIT_BLOCK = 64
FOUR_BIT_LEVELS = 16
DOUBLE_BLOCK = 256
DOUBLE_LEVELS = 256


def after_integers(checkpoint: Checkpoint, step: IntegerQuantizer) -> Checkpoint:
    """Packed integers, scales, zero points where the grid is asymmetric, and the shape, for every targeted weight."""
    return _packed(
        checkpoint,
        step.name,
        bits=step.bits,
        group_size=step.group_size,
        symmetric=step.symmetric,
        more_config=PACKED_CONFIG_BYTES,
    )


def after_mixed(checkpoint: Checkpoint, step: MixedWidths) -> Checkpoint:
    """The budget itself: bytes between those of the two uniform widths around `step.bits`, as far along as it is.

    Where embeddings compete for it they count with the 8 bits that cost them next to nothing.
    """
    below = max(width for width in WIDTHS if width <= step.bits)
    above = min(width for width in WIDTHS if width >= step.bits)
    config = PACKED_CONFIG_BYTES + MIXED_CONFIG_BYTES + MIXED_CONFIG_BYTES_A_WEIGHT * len(checkpoint.targets())
    low, high = (
        _packed(
            checkpoint,
            step.name,
            bits=width,
            group_size=step.group_size,
            symmetric=step.symmetric_at(width),
            more_config=config,
        )
        for width in (below, above)
    )
    along = (step.bits - below) / (above - below) if above > below else 0.0
    more = round((high.bytes - low.bytes) * along)
    budget = replace(low, other_bytes=low.other_bytes + more)
    if not step.embeddings:
        return budget
    return _packed_embeddings(budget, step.name, BUDGETED_EMBEDDINGS, step.group_size)


def after_bitsandbytes(checkpoint: Checkpoint, step: BitsAndBytes) -> Checkpoint:
    """What the library saves: int8 and a scale a row, or 4-bit blocks with their scales and maps."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if not is_target(name, tensor):
            # The library loads the model in bfloat16, so that is how all it leaves alone is written.
            tensors[name] = Tensor("BF16", tensor.shape)
        elif step.format == "int8":
            tensors[name] = Tensor("I8", tensor.shape)
            tensors[name.removesuffix(".weight") + ".SCB"] = Tensor("F32", tensor.shape[:1])
            tensors[name.removesuffix(".weight") + ".weight_format"] = Tensor("U8", ())
        else:
            tensors.update(_four_bit(name, tensor, step))
    return with_tensors(checkpoint, tensors, BITSANDBYTES_CONFIG_BYTES)


def _four_bit(name: str, tensor: Tensor, step: BitsAndBytes) -> Iterator[tuple[str, Tensor]]:
    blocks = math.ceil(tensor.parameters / FOUR_BIT_BLOCK)
    state: dict[str, object] = {
        "quant_type": step.format,
        "blocksize": FOUR_BIT_BLOCK,
        "dtype": "bfloat16",
        "shape": list(tensor.shape),
    }
    yield name, Tensor("U8", (math.ceil(tensor.parameters / 2), 1))
    if step.double_quantization:
        # Stands for the mean of the block scales, which the library writes to the digits of a double.
        mean = 0.07893378287553787
        state |= {"nested_blocksize": DOUBLE_BLOCK, "nested_dtype": "float32", "nested_offset": mean}
        yield f"{name}.absmax", Tensor("U8", (blocks,))
        yield f"{name}.nested_absmax", Tensor("F32", (math.ceil(blocks / DOUBLE_BLOCK),))
        yield f"{name}.nested_quant_map", Tensor("F32", (DOUBLE_LEVELS,))
    else:
        yield f"{name}.absmax", Tensor("F32", (blocks,))
    yield f"{name}.quant_map", Tensor("F32", (FOUR_BIT_LEVELS,))
    yield f"{name}.quant_state.bitsandbytes__{step.format}", Tensor("U8", (len(json.dumps(state)),))


def after_fp8(checkpoint: Checkpoint, step: FP8) -> Checkpoint:
    """A byte a weight and a scale an output channel."""
    return _byte_a_weight(checkpoint, "F8_E4M3", step.activations)


def after_w8a8(checkpoint: Checkpoint) -> Checkpoint:
    """A byte a weight and a scale an output channel."""
    return _byte_a_weight(checkpoint, "I8", activations=True)


def after_embeddings(checkpoint: Checkpoint, step: QuantizeEmbeddings) -> Checkpoint:
    """Packed integers for embeddings and head; scales a group or a row."""
    return _packed_embeddings(checkpoint, step.name, step.bits, step.group_size, step.symmetric)


def packed_tensors(
    stem: str, rows: int, columns: int, bits: int, group_size: int, symmetric: bool, kept: int | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one packed weight; kept: how many of a row's weights a sparse weight stores."""
    groups = 1 if group_size == -1 else columns // group_size
    stored = columns if kept is None else kept
    yield f"{stem}.weight_packed", Tensor("I32", (rows, math.ceil(stored * bits / 32)))
    yield f"{stem}.weight_scale", Tensor("BF16", (rows, groups))
    if not symmetric:
        yield f"{stem}.weight_zero_point", Tensor("I32", (math.ceil(rows * bits / 32), groups))
    yield f"{stem}.weight_shape", Tensor("I64", (2,))


def refuse_uneven_groups(method: str, name: str, columns: int, group_size: int) -> None:
    """Raise CandidateError when the group size does not divide a weight's columns."""
    if group_size != -1 and columns % group_size:
        raise CandidateError(
            f"{method}.group_size={group_size} does not divide the {columns} input weights of {name}; "
            "use a group size that does, or -1 for one scale an output channel"
        )


def with_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor], more_config: int) -> Checkpoint:
    """The checkpoint with another tensor table, and so many bytes more of config.json."""
    return replace(
        checkpoint,
        tensors=tensors,
        header_bytes=header_size(tensors),
        other_bytes=checkpoint.other_bytes + more_config,
    )


def _packed_embeddings(
    checkpoint: Checkpoint, method: str, bits: int, group_size: int, symmetric: bool = True
) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if is_embedding(name):
            rows, columns = tensor.shape
            refuse_uneven_groups(method, name, columns, group_size)
            tensors.update(
                packed_tensors(
                    name.removesuffix(".weight"),
                    rows,
                    columns=columns,
                    bits=bits,
                    group_size=group_size,
                    symmetric=symmetric,
                )
            )
        else:
            tensors[name] = tensor
    return with_tensors(checkpoint, tensors, EMBEDDINGS_CONFIG_BYTES)


def _packed(
    checkpoint: Checkpoint, method: str, bits: int, group_size: int, symmetric: bool, more_config: int
) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        stem = name.removesuffix(".weight").removesuffix(".weight_values")
        if is_target(name, tensor):
            rows, columns = tensor.shape
            refuse_uneven_groups(method, name, columns, group_size)
            tensors.update(
                packed_tensors(stem, rows, columns=columns, bits=bits, group_size=group_size, symmetric=symmetric)
            )
        elif name.endswith(".weight_values"):
            columns = checkpoint.sparse[stem]
            refuse_uneven_groups(method, name, columns, group_size)
            rows, kept = tensor.shape
            tensors.update(
                packed_tensors(
                    stem, rows, columns=columns, bits=bits, group_size=group_size, symmetric=symmetric, kept=kept
                )
            )
        else:
            tensors[name] = tensor
    return with_tensors(checkpoint, tensors, more_config)


def _byte_a_weight(checkpoint: Checkpoint, dtype: str, activations: bool) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if is_target(name, tensor):
            tensors[name] = Tensor(dtype, tensor.shape)
            tensors[f"{name}_scale"] = Tensor("BF16", (tensor.shape[0], 1))
        else:
            tensors[name] = tensor
    more = EIGHT_BIT_CONFIG_BYTES + (ACTIVATIONS_CONFIG_BYTES if activations else 0)
    return with_tensors(checkpoint, tensors, more)
