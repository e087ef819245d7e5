"""W8A8 quantization: int8 weights with a scale an output channel, and int8 activations with a scale a token."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.methods.quantizers import W8A8
from workers.compression.quantization.eight_bits import ByteWeight, write_byte_weights
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import fit_grid, to_integers
from workers.stored_forms.quantization_config import WeightScheme

BITS = 8


def compress(parent: Path, out: Path, step: W8A8, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; its config has the layers' inputs quantized as they come."""
    return write_byte_weights(parent, out, WeightScheme(bits=BITS, activations=True), quantize, context)


def quantize(weight: torch.Tensor) -> ByteWeight:
    """A weight (rows, columns) as int8 on each row's symmetric grid, its scale the largest magnitude over 127.5; a row
    of zeros gets the scale 1. Raises ValueError for a weight that is not finite.

    Reference: vector-wise quantization, https://arxiv.org/abs/2208.07339 §2.1.
    """
    grid = fit_grid(weight, BITS, group_size=-1, symmetric=True)
    return ByteWeight(to_integers(weight, grid, BITS), grid.scale)
