"""GPTQ of a group of weights that read one input, at several widths; and such weights put into a running model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from search_spaces.methods.quantizers import GPTQ, MixedWidths
from workers.calibration.damping import Hear, unheard
from workers.calibration.statistics import Statistics
from workers.compression.mixed_widths.width_groups import AS_IS, WidthGroup, parameter
from workers.compression.quantization import rtn
from workers.compression.quantization.gptq import factor_of, quantize_widths
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.single_weights import StoredWeights

# Damping and order of columns are those that GPTQ has when nothing else is asked for.
GPTQ_DEFAULTS = GPTQ(bits=4)


def quantize_group(
    group: WidthGroup,
    widths: Sequence[int],
    weights: StoredWeights,
    statistics: Statistics,
    step: MixedWidths,
    hear: Hear = unheard,
) -> Iterator[tuple[str, torch.Tensor, dict[int, QuantizedWeight]]]:
    """Each weight of the group in turn: its name, the weight as stored, and width -> the quantized weight.

    Linear weights share one factor of their Hessian; embeddings are rounded to nearest, and AS_IS is left out. step:
    whose groups and zero points they have. hear: is told of the damping.
    """
    if group.is_embeddings:
        for name in group.weights:
            weight, _ = weights.read(name)
            yield name, weight, {bits: rtn.quantize(weight, bits, step.group_size) for bits in widths if bits != AS_IS}
        return
    factor, order = factor_of(statistics.hessian(group.weights[0], weights.device), GPTQ_DEFAULTS.damping, hear=hear)
    for name in group.weights:
        weight, mask = weights.read(name)
        found = quantize_widths(
            weight,
            factor,
            order=order,
            widths=widths,
            group_size=step.group_size,
            symmetric=step.symmetric_at,
            mask=mask,
        )
        yield name, weight, dict(zip(widths, found, strict=True))


@contextmanager
def replace_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, the model has these weights, in its own type; afterwards those it had."""
    had = {name: parameter(model, name).detach().clone() for name in weights}
    try:
        put(model, weights)
        yield
    finally:
        put(model, had)


def put(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Write these weights over the model's, in its own type; a tied head goes with the embeddings."""
    for name, weight in weights.items():
        parameter(model, name).data.copy_(weight)
