"""How far linear layers' outputs move when their weights are quantized: Σ ‖(W - Ŵ) x‖² over given inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workers.calibration.calibrate import statistics_of
from workers.calibration.capture import LayerSums, capture
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Batch, balance_pairs, batches
from workers.compression.quantization import gptq, rtn
from workers.loading.load import load_for_calibration, load_tokenizer
from workers.plan.compression_context import CompressionContext

GROUP_SIZE = 64


def output_error(weight: torch.Tensor, changed: torch.Tensor, sums: torch.Tensor) -> float:
    """Σ over tokens of ‖(weight - changed) x‖², sums being Σ x xᵀ (columns, columns) over those tokens."""
    difference = changed.float() - weight.float()
    return float(((difference @ sums) * difference).sum(dtype=torch.float64))


def held_out_errors(folder: Path, context: CompressionContext, widths: Sequence[int]) -> dict[str, float]:
    """`METHOD_BITS` -> the error of GPTQ and RTN, groups of 64, added up over all layers of the model.

    The Hessians come from the calibration pairs, the errors from pairs kept apart from them. Both are on one grid:
    groups of 64, symmetric, GPTQ's ranges searched, RTN's absmax, as each is used.
    """
    statistics = statistics_of(folder, context)
    tokenizer = load_tokenizer(folder)
    kept_apart = balance_pairs(parts(context.calibration, context.seed)[1], tokenizer, context.prompt, 2**30)
    model = load_for_calibration(folder, context.device)
    errors: dict[str, float] = {}
    for name, weight, sums in _weights(model, batches(kept_apart), context.device):
        hessian = statistics.hessian(name, context.device)
        for bits in widths:
            for method, quantized in (
                ("gptq", gptq.quantize(weight, hessian, bits, GROUP_SIZE)),
                ("rtn", rtn.quantize(weight, bits, GROUP_SIZE)),
            ):
                error = output_error(weight, quantized.dequantized(), sums)
                errors[f"{method}_{bits}"] = errors.get(f"{method}_{bits}", 0.0) + error
    return errors


def errors_against(
    model: Any, changed: Mapping[str, torch.Tensor], made: Sequence[Batch], device: torch.device
) -> list[float]:
    """Each layer's error when its linear weights are `changed` (by full name), over the model's own inputs."""
    errors: dict[int, float] = {}
    for name, weight, sums in _weights(model, made, device):
        layer = int(name.split("layers.")[1].split(".")[0])
        errors[layer] = errors.get(layer, 0.0) + output_error(weight, changed[name].to(device), sums)
    return [errors[layer] for layer in sorted(errors)]


def _weights(
    model: Any, made: Sequence[Batch], device: torch.device
) -> Iterable[tuple[str, torch.Tensor, torch.Tensor]]:
    """Each linear weight of the layers by full name, on the device, and Σ x xᵀ of what enters it."""
    layers = model.get_decoder().layers
    prefix = next(name for name, module in model.named_modules() if module is layers)
    for sums in capture(model, made, device):
        yield from _layer_weights(layers[sums.index], sums, f"{prefix}.{sums.index}", device)


def _layer_weights(
    layer: torch.nn.Module, sums: LayerSums, prefix: str, device: torch.device
) -> Iterable[tuple[str, torch.Tensor, torch.Tensor]]:
    for name, key in sums.keys.items():
        weight = layer.get_parameter(name).detach().to(device)
        yield f"{prefix}.{name}", weight, sums.inputs[key].hessian
