"""A scale for every token where a model's linear inputs are quantized as they come, whatever shape they come in.

compressed-tensors puts the inputs on their 8-bit grids in each quantized layer's forward pass, before and after the
weights have been multiplied out. It takes the first two dimensions for the tokens, as (batch, tokens, width) has them;
of (tokens, width), which OPT gives its feed-forward layers, all tokens would share one scale.
"""

from __future__ import annotations

from typing import Any

import torch


def token_by_token(model: Any) -> Any:
    """The model, its layers with quantized inputs hooked so that two-dimensional inputs, too, get a scale a token."""
    for module in model.modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is not None and scheme.input_activations is not None:
            module.register_forward_pre_hook(_as_one_batch)
            module.register_forward_hook(_as_given)
    return model


def _as_one_batch(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    module.tokens_alone = inputs[0].ndim == 2
    return (inputs[0][None], *inputs[1:]) if module.tokens_alone else inputs


def _as_given(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output[0] if module.tokens_alone else output
