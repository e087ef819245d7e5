"""How long calibration and GPTQ take on a model of a real shape with random weights, and how much GPU memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from workers.calibration.capture import LayerSums, capture
from workers.calibration.sequences import Batch, Shown, batches
from workers.compression.quantization.gptq import factor_of, quantize_widths
from workers.loading.load import CPU_DTYPE, CUDA_DTYPE

DAMPING = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Mistral-like decoder."""

    layers: int
    """How many decoder layers."""
    hidden: int
    """Width of the residual stream."""
    inner: int
    """Channels of the MLP."""
    heads: int
    """Query heads of the attention."""
    groups: int
    """Key-value heads of the attention."""
    vocabulary: int
    """How many tokens."""
    sequence: int
    """Tokens of a calibration sequence."""


SHAPES: dict[str, Shape] = {
    "mistral-7b": Shape(32, 4096, 14336, 32, 8, 32_000, 2048),
    "llama-1b": Shape(16, 2048, 8192, 32, 8, 32_000, 2048),
    "small": Shape(2, 256, 640, 4, 2, 1000, 128),
}


@dataclass(frozen=True, slots=True)
class Timed:
    """seconds: wall-clock time, GPU work finished. peak_gib: torch's peak of allocated GPU memory, weights included; 0
    on a CPU."""

    seconds: float
    peak_gib: float


def config_of(shape: Shape, **more: Any) -> Any:
    """The MistralConfig of this shape. more: what else it says."""
    from transformers import MistralConfig

    return MistralConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        max_position_embeddings=max(shape.sequence, 4096),
        sliding_window=None,
        **more,
    )


def random_model(shape: Shape, device: torch.device, layers: int | None = None) -> Any:
    """A causal LM of this shape with random weights, made on the device; layers: fewer than the shape has."""
    from transformers import AutoModelForCausalLM

    config = config_of(shape if layers is None else replace(shape, layers=layers))
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=CUDA_DTYPE if device.type == "cuda" else CPU_DTYPE)
    return model.eval()


def random_sequences(shape: Shape, tokens: int) -> torch.Tensor:
    """Token ids drawn alike, int64 (sequences, tokens a sequence), `tokens` in all."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, shape.vocabulary, (tokens // shape.sequence, shape.sequence), generator=generator)


def as_batches(ids: torch.Tensor) -> list[Batch]:
    """Sequences of one length, int64 (sequences, tokens), as calibration reads them."""
    return batches([Shown(tuple(row.tolist()), 0) for row in ids])


def calibrate_and_quantize(
    model: Any, ids: torch.Tensor, widths: Sequence[int], group_size: int, device: torch.device
) -> Timed:
    """One pass over the sequences, every linear layer quantized at every width; the model ends with the last width.

    As llm-compressor's oneshot without an output folder, it writes nothing to disk.
    """
    made = as_batches(ids)
    return timed(lambda: _each_layer(model, made, widths, group_size, device), device)


def _each_layer(
    model: Any, made: Sequence[Batch], widths: Sequence[int], group_size: int, device: torch.device
) -> None:
    layers = model.get_decoder().layers
    for sums in capture(model, made, device):
        quantize_layer(layers[sums.index], sums, widths, group_size)


@torch.inference_mode()
def quantize_layer(layer: torch.nn.Module, sums: LayerSums, widths: Sequence[int], group_size: int) -> None:
    """Put the layer's linear weights on the grids of the widths, one after another; each Hessian is factored once."""
    for key, inputs in sums.inputs.items():
        factor, order = factor_of(inputs.hessian / sums.tokens, DAMPING)
        for name in (name for name, its_key in sums.keys.items() if its_key == key):
            weight = layer.get_parameter(name)
            for quantized in quantize_widths(weight, factor, order, widths, group_size):
                weight.copy_(quantized.dequantized())


def timed(work: Callable[[], object], device: torch.device) -> Timed:
    """The work's time and memory, from a GPU without leftovers and nothing in flight."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return Timed(seconds, torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0)
