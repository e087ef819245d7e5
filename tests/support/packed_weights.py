"""Packed weights for tests: random ones, quantized and packed as the methods do it."""

from __future__ import annotations

import torch

from workers.compression.quantization.rtn import quantize
from workers.packed.weight import PackedWeight, packed_weight
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.packing import pack

ROWS, COLUMNS = 48, 256


def quantized(
    bits: int, group_size: int = 64, symmetric: bool = True, rows: int = ROWS, columns: int = COLUMNS, seed: int = 0
) -> QuantizedWeight:
    torch.manual_seed(seed)
    return quantize(torch.randn(rows, columns) + 0.2, bits, group_size, symmetric)


def parts(weight: QuantizedWeight) -> dict[str, torch.Tensor]:
    return {name.removeprefix("stem."): tensor for name, tensor in pack("stem", weight)}


def kept(weight: QuantizedWeight) -> PackedWeight:
    return packed_weight(parts(weight), weight.bits)
