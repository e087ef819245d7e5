"""FP8 quantization: every linear weight of the decoder layers as E4M3 floats with a scale an output channel."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.methods.quantizers import FP8
from workers.compression.quantization.eight_bits import ByteWeight, write_byte_weights
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import SCALE_DTYPE, refuse_not_finite
from workers.stored_forms.quantization_config import WeightScheme

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max


def compress(parent: Path, out: Path, step: FP8, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; with `step.activations` its config has the layers' inputs quantized to
    E4M3 as they come, with a scale a token."""
    scheme = WeightScheme(bits=8, type="float", activations=step.activations)
    return write_byte_weights(parent, out, scheme, quantize, context)


def quantize(weight: torch.Tensor) -> ByteWeight:
    """A weight (rows, columns) as E4M3 values that each row's bfloat16 scale spreads over the type's whole range.

    The scale is the row's largest magnitude over 448, the largest E4M3 value (https://arxiv.org/abs/2209.05433 §3,
    table 1); a row of zeros gets the scale 1. Halves go to the even mantissa. Raises ValueError for a weight that is
    not finite.
    """
    refuse_not_finite(weight)
    weight = weight.float()
    scale = (weight.abs().amax(dim=1, keepdim=True) / LARGEST).to(SCALE_DTYPE)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    # The rounded scale can be too small for the row's largest weight, and E4M3 has no infinity: beyond 448 is NaN.
    values = (weight / scale.float()).clamp(-LARGEST, LARGEST)
    return ByteWeight(values.to(E4M3), scale)
