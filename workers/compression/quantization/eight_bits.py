"""Writing a checkpoint whose linear weights take a byte each: what FP8 and W8A8 share.

A weight is stored as `weight`, (rows, columns) of a one-byte type, and `weight_scale`, bfloat16 (rows, 1); it stands
for their product. This is compressed-tensors' float-quantized and int-quantized form, so transformers loads it by
itself: it multiplies the weights out at the first forward pass, and where the scheme has activations it puts every
token that enters a linear layer on that token's own 8-bit grid, in floating-point arithmetic on any device. What is
measured so is the quality that 8-bit kernels give, not their speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from search_spaces.sizes.tensor_table import Tensor, is_embedding, is_target
from workers.checkpoints.model_files import read_config
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import copy_small_files, stored_tensors, write_config, write_tensors
from workers.stored_forms.quantization_config import WeightScheme, quantization_config


@dataclass(frozen=True, slots=True)
class ByteWeight:
    """values: int8 or float8 (rows, columns). scale: bfloat16 (rows, 1). The weight is values × scale."""

    values: torch.Tensor
    scale: torch.Tensor

    def dequantized(self) -> torch.Tensor:
        """The weight that is stored, float32 (rows, columns)."""
        return self.values.float() * self.scale.float()


def write_byte_weights(
    parent: Path,
    out: Path,
    scheme: WeightScheme,
    quantize: Callable[[torch.Tensor], ByteWeight],
    context: CompressionContext,
) -> Report:
    """Write the parent with every linear weight of its decoder layers as `quantize` makes it; all else as it is.

    scheme: how the config describes those weights. Raises what `quantize` raises.
    """
    quantized: list[str] = []
    left = ["lm_head"]
    changed = 0

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        for name, tensor in stored_tensors(parent, context.device):
            stem = name.removesuffix(".weight")
            if is_target(name, Tensor("F32", tuple(tensor.shape))):
                weight = quantize(tensor)
                quantized.append(stem)
                changed += tensor.numel()
                yield name, weight.values
                yield f"{name}_scale", weight.scale
                continue
            if name.endswith(".weight") and tensor.ndim == 2 and not is_embedding(name):
                left.append(stem)
            yield name, tensor

    write_tensors(out, tensors())
    copy_small_files(parent, out)
    config = read_config(parent)
    config["quantization_config"] = quantization_config(dict.fromkeys(quantized, scheme), left)
    write_config(out, config)
    return Report(targeted=changed, changed=changed)
