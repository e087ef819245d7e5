"""GPTQ: round weights column by column and let the columns that follow make up for each one's error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from search_spaces.methods.quantizers import GPTQ
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings, Hear, unheard
from workers.calibration.hessian_inverse import inverse_factor
from workers.calibration.shared_inputs import once_an_input
from workers.calibration.statistics import Statistics
from workers.compression.quantization.gptq_loop import quantize_columns
from workers.compression.quantization.range_search import search_grid
from workers.compression.quantization.write_quantized import Quantize, write_quantized
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import QuantizedWeight, view_groups


def compress(parent: Path, out: Path, step: GPTQ, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`, by the Hessians of the parent's calibration statistics."""
    statistics = statistics_of(parent, context)
    dampings = Dampings(statistics.tokens)
    one = quantizer(statistics, context.device, step, lambda name: step.bits, dampings.hear)
    return write_quantized(parent, out, one, context).with_notes(dampings.notes())


def quantizer(
    statistics: Statistics,
    device: torch.device,
    step: GPTQ,
    bits_of: Callable[[str], int],
    hear: Hear,
    symmetric_at: Callable[[int], bool] | None = None,
) -> Quantize:
    """What quantizes a checkpoint's weights as the step says, each with the bits of its name.

    A Hessian is factored once for all weights that share it. hear: is told of the damping. symmetric_at: whether so
    many bits have no zero point, where that is not the step's to say.
    """

    def factor(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        return factor_of(statistics.hessian(name, device), step.damping, step.activation_order, hear)

    factored = once_an_input(statistics, factor)

    def one(name: str, weight: torch.Tensor, mask: torch.Tensor | None) -> QuantizedWeight:
        factor, order = factored(name)
        return quantize_widths(
            weight,
            factor,
            order=order,
            widths=(bits_of(name),),
            group_size=step.group_size,
            symmetric=symmetric_at or step.symmetric,
            mask=mask,
        )[0]

    return one


def quantize(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    bits: int,
    group_size: int,
    symmetric: bool = True,
    damping: float = 0.01,
    activation_order: bool = True,
    mask: torch.Tensor | None = None,
    hear: Hear = unheard,
) -> QuantizedWeight:
    """One weight at one width; see `quantize_widths`. hear: is told of the damping."""
    factor, order = factor_of(hessian, damping, activation_order, hear)
    return quantize_widths(
        weight, factor, order=order, widths=(bits,), group_size=group_size, symmetric=symmetric, mask=mask
    )[0]


def quantize_widths(
    weight: torch.Tensor,
    factor: torch.Tensor,
    order: torch.Tensor | None,
    widths: Sequence[int],
    group_size: int,
    symmetric: bool | Callable[[int], bool] = True,
    mask: torch.Tensor | None = None,
) -> list[QuantizedWeight]:
    """A weight at several widths, for little more than the time of one.

    weight: (rows, columns), any float type. factor: float32 upper triangular U with H⁻¹ = UᵀU, of the columns in
    `order`. symmetric: whether there is no zero point, or whether there is none at so many bits. Scales are fixed
    beforehand, by a search in which a column's error counts by 1 / U_jj², as it does in the loss that GPTQ minimises
    (https://arxiv.org/abs/2210.17323 eq. 2). Raises ValueError for a weight that is not finite or a group size that
    does not divide its columns.
    """
    weight = weight.float()
    view_groups(weight, group_size)
    importance = factor.diagonal().square().reciprocal()
    if order is not None:
        importance = importance[torch.argsort(order)]
    # The integers are yet to be found; the weight's own shape stands for them.
    unread = torch.empty(0, dtype=torch.int8, device=weight.device)
    empty = [
        QuantizedWeight(
            unread,
            search_grid(weight, importance, bits, group_size, symmetric(bits) if callable(symmetric) else symmetric),
            bits,
            mask,
        )
        for bits in widths
    ]
    found = quantize_columns(weight, factor, empty, order)
    return [replace(one, integers=integers) for one, integers in zip(empty, found, strict=True)]


def factor_of(
    hessian: torch.Tensor, damping: float, activation_order: bool = True, hear: Hear = unheard
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The factor of the inverse Hessian that columns are rounded by, and their order (None: as they lie). hear: is told
    of the damping."""
    order = column_order(hessian) if activation_order else None
    return inverse_factor(hessian if order is None else hessian[order][:, order], damping, hear), order


def column_order(hessian: torch.Tensor) -> torch.Tensor:
    """The columns by falling diagonal of the Hessian: the large inputs are rounded while most can make up for them."""
    return torch.argsort(hessian.diagonal(), descending=True, stable=True)
