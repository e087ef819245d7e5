"""Round-to-nearest quantization of a checkpoint, packed on disk as compressed-tensors' pack-quantized format.

The written folder is one that transformers loads by itself, when compressed-tensors is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

from search_spaces.checkpoint import Tensor, is_target
from search_spaces.methods import RoundToNearest
from workers.compression.context import CompressionContext, Report
from workers.compression.folder import copy_small_files, stored_tensors, write_config, write_tensors
from workers.model_files import read_config

SCALE_DTYPE = torch.bfloat16


def compress(parent: Path, out: Path, step: RoundToNearest, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; the targets are the linear weights of the decoder layers."""
    changed = 0

    def packed() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal changed
        for name, tensor in stored_tensors(parent, context.device):
            if not is_target(name, Tensor("F32", tuple(tensor.shape))):
                yield name, tensor
                continue
            changed += tensor.numel()
            yield from pack(name.removesuffix(".weight"), tensor, step)

    write_tensors(out, packed())
    copy_small_files(parent, out)
    config = read_config(parent)
    config["quantization_config"] = quantization_config(step)
    write_config(out, config)
    return Report(targeted=changed, changed=changed)


def quantize(weight: torch.Tensor, bits: int, group_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric absmax quantization of a weight of shape (rows, columns).

    Returns the integers, shape (rows, columns), within [-2^(bits-1), 2^(bits-1) - 1], and the scales in bfloat16, shape
    (rows, groups): weight ≈ integer × scale of its group. A scale is the group's largest magnitude over
    (2^bits - 1) / 2, so that the grid's full width is used. Raises ValueError for a weight that is not finite.
    """
    if not torch.isfinite(weight).all():
        raise ValueError("a weight holds values that are not finite; the base model is damaged")
    rows, columns = weight.shape
    size = columns if group_size == -1 else group_size
    grouped = weight.float().reshape(rows, columns // size, size)
    half = (2**bits - 1) / 2
    scale = (grouped.abs().amax(dim=-1) / half).to(SCALE_DTYPE)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    integers = torch.round(grouped / scale.float()[..., None]).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return integers.reshape(rows, columns), scale


def pack(stem: str, weight: torch.Tensor, step: RoundToNearest) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that stand for one quantized weight on disk."""
    integers, scale = quantize(weight, step.bits, step.group_size)
    size = weight.shape[1] // scale.shape[1]
    values = integers * scale.float().repeat_interleave(size, dim=1)
    stored = PackedQuantizationCompressor.compress({"weight": values, "weight_scale": scale.float()}, _scheme(step))
    yield f"{stem}.weight_packed", stored["weight_packed"]
    yield f"{stem}.weight_scale", scale
    yield f"{stem}.weight_shape", stored["weight_shape"]


def quantization_config(step: RoundToNearest) -> dict[str, Any]:
    """What config.json says of the packed weights."""
    config = QuantizationConfig(
        config_groups={"group_0": _scheme(step)},
        quant_method="compressed-tensors",
        format="pack-quantized",
        quantization_status="compressed",
        ignore=["lm_head"],
    )
    record: dict[str, Any] = json.loads(config.model_dump_json(exclude_none=True))
    return record


def _scheme(step: RoundToNearest) -> QuantizationScheme:
    per_channel = step.group_size == -1
    weights = QuantizationArgs(
        num_bits=step.bits,
        type="int",
        symmetric=True,
        strategy="channel" if per_channel else "group",
        group_size=None if per_channel else step.group_size,
    )
    return QuantizationScheme(targets=["Linear"], weights=weights)
