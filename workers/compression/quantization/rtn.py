"""Round-to-nearest quantization: each weight goes to the nearest point of its group's grid, nothing is calibrated."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.methods.quantizers import RTN
from workers.compression.quantization.write_quantized import write_quantized
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import QuantizedWeight, fit_grid, to_integers


def compress(parent: Path, out: Path, step: RTN, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`."""
    return write_quantized(
        parent,
        out,
        lambda name, weight, mask: quantize(weight, step.bits, step.group_size, step.symmetric, mask),
        context,
    )


def quantize(
    weight: torch.Tensor, bits: int, group_size: int, symmetric: bool = True, mask: torch.Tensor | None = None
) -> QuantizedWeight:
    """A weight of shape (rows, columns) on the grid that spans it; ValueError for one that is not finite."""
    grid = fit_grid(weight, bits, group_size, symmetric)
    return QuantizedWeight(to_integers(weight, grid, bits), grid, bits, mask)
