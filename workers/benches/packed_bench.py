"""How fast a real shape runs with its weights kept packed, beside the same shape uncompressed in the same engine."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from workers.benches.compression_speed import SHAPES, random_model
from workers.benches.decode_bench import alike, timed_decoder
from workers.compression.quantization.rtn import quantize
from workers.packed.held import held_bytes
from workers.packed.linear import PackedLinear
from workers.packed.weight import packed_weight
from workers.plan.evaluation_plan import SPEED_BATCHES
from workers.stored_forms.packing import pack

WIDTHS = (8, 4, 3, 2)
GROUP = 128
STEM = "weight"


def packed_figures(shape: str, say: Callable[[str], None]) -> dict[str, float]:
    """Tokens a second at each batch size, and GiB, in bfloat16 and with linear layers rounded to each width.

    Embeddings and head stay in bfloat16. Prompts of 80 tokens, 64 new ones.
    """
    figures: dict[str, float] = {}
    device = torch.device("cuda", 0)
    for bits in (16, *WIDTHS):
        name = "bf16" if bits == 16 else f"{bits}bit"
        model = random_model(SHAPES[shape], device)
        if bits < 16:
            keep_packed(model, bits)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        figures[f"weights_gib_{name}"] = held_bytes(model) / 2**30
        for batch in SPEED_BATCHES:
            run = timed_decoder(model, batch, alike(batch, SHAPES[shape].vocabulary))
            figures[f"tokens_s_{name}_b{batch}"] = run.tokens_s
        figures[f"peak_gib_{name}"] = torch.cuda.max_memory_allocated(device) / 2**30
        speeds = ", ".join(f"{figures[f'tokens_s_{name}_b{batch}']:.0f} at {batch}" for batch in SPEED_BATCHES)
        say(f"{name}: {speeds} tokens/s; {figures[f'weights_gib_{name}']:.2f} GiB of weights")
        del model
    return figures


def keep_packed(model: Any, bits: int) -> None:
    """Put a packed layer in the place of each linear layer of the decoder, rounded to nearest in groups."""
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, linear in list(parent.named_children()):
                if isinstance(linear, torch.nn.Linear):
                    setattr(parent, name, _packed(linear, bits))


def _packed(linear: torch.nn.Linear, bits: int) -> PackedLinear:
    rounded = quantize(linear.weight.data, bits, GROUP, True)
    tensors = {name.removeprefix(f"{STEM}."): tensor for name, tensor in pack(STEM, rounded)}
    weight = packed_weight({name: tensor.to(linear.weight.device) for name, tensor in tensors.items()}, bits)
    return PackedLinear(weight, None if linear.bias is None else linear.bias.data)
