"""The dense weight of a linear layer that bitsandbytes holds, and such a model with dense layers in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from workers.checkpoints.adapters import LowRank


def with_dense_layers(model: Any, adapters: Mapping[str, LowRank]) -> Any:
    """The model with a dense layer, of its own type, for every layer of bitsandbytes, each with its adapter in it.

    adapters: stem -> adapter. The model must not have been called yet: on a CPU the library's first forward pass
    repacks 4-bit weights in place. Products round otherwise than the library's; LLM.int8()'s inputs are not quantized.
    """
    layers = {name: module for name, module in model.named_modules() if is_bitsandbytes_layer(module)}
    for stem, module in layers.items():
        weight = dense_weight(module)
        if stem in adapters:
            low = adapters[stem]
            weight = low.to(weight.device).merged(weight)
        dense = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
        dense.weight = nn.Parameter(weight.to(model.dtype), requires_grad=False)
        if module.bias is not None:
            dense.bias = nn.Parameter(module.bias.detach().to(model.dtype), requires_grad=False)
        model.set_submodule(stem, dense)
    return model


def is_bitsandbytes_layer(module: nn.Module) -> bool:
    """Whether the module is one of bitsandbytes' linear layers."""
    return isinstance(module, nn.Linear) and type(module).__module__.startswith("bitsandbytes")


def dense_weight(module: Any) -> torch.Tensor:
    """The weight (rows, columns) of one of bitsandbytes' layers that has not been called yet, float32."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight = module.weight
    if getattr(weight, "quant_state", None) is not None:
        found: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)
    else:
        found = int8_vectorwise_dequant(weight.data, weight.SCB.to(weight.device))
    return found.float()
