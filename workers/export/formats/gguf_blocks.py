"""Integer grids as ggml's blocks of 32 weights: which type holds a grid, and its bytes.

Types: Q8_0 holds scale × integer, Q4_0 scale × (integer - 8), Q4_1 scale × integer + least
(https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c). Scales and leasts are float16; ours are bfloat16,
which float16 holds bit for bit from 2^-17 up. A scale of more than 32 columns stands in each of their blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from workers.export.formats.grids import WeightForm
from workers.stored_forms.integer_grid import QuantizedWeight

BLOCK = 32
# Most bits of a grid -> the type that holds it, symmetric or with zero points.
SYMMETRIC = {4: "Q4_0", 8: "Q8_0"}
WITH_ZERO_POINTS = {4: "Q4_1"}
BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
# What is added to our integers of 4 bits, which lie around 0, so that the block's are unsigned.
OFFSET = 8


def block_type(form: WeightForm) -> str:
    """The type that holds a weight's grid. Raises ValueError with what would do where none does."""
    if form.bits is None:
        raise ValueError("a weight without a grid has no blocks")
    if form.shape[1] % BLOCK:
        raise ValueError(f"it has {form.shape[1]} columns, and GGUF's blocks have {BLOCK}")
    if form.group_size % BLOCK:
        raise ValueError(
            f"its group size is {form.group_size}, and GGUF's blocks have {BLOCK} columns: a group size of 32, 64 or "
            "128 would do"
        )
    types = SYMMETRIC if form.symmetric else WITH_ZERO_POINTS
    bits = next((most for most in types if form.bits <= most), None)
    if bits is None:
        raise ValueError(
            f"it has {form.bits} bits with zero points, which no type of GGUF holds: {form.bits} symmetric bits, or at "
            "most 4 bits with zero points, would do"
        )
    return types[bits]


def to_blocks(weight: QuantizedWeight, kind: str) -> Any:
    """The weight as bytes of that type: uint8 (rows, bytes a row)."""
    rows, columns = weight.integers.shape
    blocks = columns // BLOCK
    repeats = blocks // weight.grid.scale.shape[1]
    integers = weight.integers
    if weight.mask is not None:
        zero = 0 if weight.grid.zero_point is None else weight.grid.zero_point.repeat_interleave(repeats * BLOCK, 1)
        integers = torch.where(weight.mask, integers, zero)
    scale = weight.grid.scale.float().repeat_interleave(repeats, 1)
    parts = [_half(scale)]
    if kind.endswith("_1"):
        zero = weight.grid.zero_point
        least = (
            -float(OFFSET) * scale if zero is None else (-(OFFSET + zero.float().repeat_interleave(repeats, 1)) * scale)
        )
        parts.append(_half(least))
    values = integers.to(torch.int16).numpy().reshape(rows, blocks, BLOCK)
    if kind == "Q8_0":
        parts.append(values.astype(np.int8).view(np.uint8))
    else:
        values = (values + OFFSET).astype(np.uint8)
        low, high = values[..., : BLOCK // 2] & 15, values[..., BLOCK // 2 :] & 15
        parts.append(low | (high << 4))
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def _half(values: torch.Tensor) -> Any:
    """(rows, blocks) as bytes of float16: uint8 (rows, blocks, 2)."""
    return values.half()[..., None].numpy().view(np.uint8)
