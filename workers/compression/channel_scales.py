"""The choice of AWQ's scales: how far to scale the input channels of weights that share an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from search_spaces.quantizers import ActivationAware
from workers.compression.clipping import quantize_clipped
from workers.compression.grid import QuantizedWeight
from workers.compression.output_error import row_errors
from workers.compression.rtn import quantize as round_to_nearest

# Exponents of the activations' magnitude. 0, no scaling, comes first and wins ties.
EXPONENTS = tuple(step / 19 for step in range(20))
# Channels that are hardly ever used are scaled as though they had this share of the largest magnitude.
LEAST_MAGNITUDE = 1e-4

# A weight and the mask of a sparse one.
Masked = tuple[torch.Tensor, torch.Tensor | None]
Quantize = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], QuantizedWeight]


@dataclass(frozen=True, slots=True)
class Choice:
    """exponent: one of `EXPONENTS`. channels: the scales of the writer's channels, and columns: those of the readers'
    columns, float32. error, unscaled_error: round-to-nearest's output error with these scales and with none."""

    exponent: float
    channels: torch.Tensor
    columns: torch.Tensor
    error: float
    unscaled_error: float


def choose(
    weights: Sequence[Masked],
    hessian: torch.Tensor,
    magnitude: torch.Tensor,
    step: ActivationAware,
    to_columns: Callable[[torch.Tensor], torch.Tensor] = lambda channels: channels,
) -> Choice:
    """The exponent that leaves the least output error, tr((W - Ŵ) H (W - Ŵ)ᵀ) summed over the weights that share an
    input, with Ŵ = Q(W diag(s)) diag(1/s) (https://arxiv.org/abs/2306.00978 eq. 4 and 5).

    Q is round-to-nearest as in the paper; scales that lose to none once both are clipped are not taken.
    magnitude: mean |activation|, float32 (channels,). to_columns: from the scales of channels to those of columns,
    float32 (columns,). Raises ValueError for a weight that is not finite.
    """

    def nearest(weight: torch.Tensor, scaled: torch.Tensor, mask: torch.Tensor | None) -> QuantizedWeight:
        return round_to_nearest(weight, step.bits, step.group_size, step.symmetric, mask)

    def clipped(weight: torch.Tensor, scaled: torch.Tensor, mask: torch.Tensor | None) -> QuantizedWeight:
        return quantize_clipped(weight, scaled, step.bits, step.group_size, step.symmetric, mask)

    tried = [scales_of(magnitude, exponent) for exponent in EXPONENTS]
    errors = [output_error(weights, hessian, to_columns(channels), nearest) for channels in tried]
    best = min(range(len(tried)), key=errors.__getitem__)
    if best:
        scaled, unscaled = (
            output_error(weights, hessian, to_columns(channels), clipped) for channels in (tried[best], tried[0])
        )
        best = best if scaled < unscaled else 0
    return Choice(EXPONENTS[best], tried[best], to_columns(tried[best]), errors[best], errors[0])


def scales_of(magnitude: torch.Tensor, exponent: float) -> torch.Tensor:
    """magnitude^exponent over the root of its largest times its least value; 1 everywhere for the exponent 0."""
    largest = magnitude.max()
    if largest == 0:
        return torch.ones_like(magnitude)
    powers = (magnitude / largest).clamp(min=LEAST_MAGNITUDE).pow(exponent)
    return powers / (powers.max() * powers.min()).sqrt()


def output_error(weights: Sequence[Masked], hessian: torch.Tensor, columns: torch.Tensor, quantize: Quantize) -> float:
    """Mean over tokens of the squared error of all outputs, with these column scales.

    quantize: (scaled weight, Hessian of the scaled input, mask) -> quantized weight.
    """
    scaled = scaled_hessian(hessian, columns)
    total = 0.0
    for weight, mask in weights:
        stored = quantize(weight.float() * columns, scaled, mask).dequantized() / columns
        total += row_errors(weight.float() - stored, hessian).sum(dtype=torch.float64).item()
    return total


def scaled_hessian(hessian: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The Hessian of an input that is divided by these scales."""
    return hessian / columns / columns[:, None]
