"""GPTQ's loop over columns, for any number of grids at once: round a column, let the columns after it make up for it.

The weights of all grids are stacked as rows, since they share the inverse Hessian. Columns go in blocks, and blocks in
spans: what a column's error does to its block is done at once, to its span after the block, to the rest after the span
(the lazy batches of https://arxiv.org/abs/2210.17323 §3.3, on two levels).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workers.runtime.tensor_cores import tensor_cores
from workers.stored_forms.integer_grid import QuantizedWeight, bounds

BLOCK = 128
SPAN = 1024


def quantize_columns(
    weight: torch.Tensor,
    factor: torch.Tensor,
    empty: Sequence[QuantizedWeight],
    order: torch.Tensor | None,
) -> list[torch.Tensor]:
    """The integers of each grid, int8 (rows, columns).

    weight: float32 (rows, columns). factor: upper triangular U, H⁻¹ = UᵀU, of the columns in `order`. empty: for each
    result its grid, width and mask; their integers are not read. order: the columns in the order they are rounded in,
    None for as they lie; groups are those of the weight as it lies.
    """
    rows, columns = weight.shape
    order = torch.arange(columns, device=weight.device) if order is None else order
    stacked = weight[:, order].repeat(len(empty), 1)
    factor = factor.contiguous()
    rule = _Rule.of(empty, rows, order)
    integers = torch.empty(stacked.shape, dtype=torch.int8, device=weight.device)
    errors = torch.empty(stacked.shape[0], min(SPAN, columns), dtype=torch.float32, device=weight.device)
    # What columns make up for is rounded to the grid next, a thousand times more coarsely.
    with tensor_cores():
        for span in range(0, columns, SPAN):
            end = min(span + SPAN, columns)
            for start in range(span, end, BLOCK):
                stop = min(start + BLOCK, end)
                error = errors[:, start - span : stop - span]
                _round_block(stacked, factor, rule=rule, integers=integers, error=error, start=start, stop=stop)
                if stop < end:
                    stacked[:, stop:end].addmm_(error, factor[start:stop, stop:end], alpha=-1)
            if end < columns:
                stacked[:, end:].addmm_(errors[:, : end - span], factor[span:end, end:], alpha=-1)
    back = torch.argsort(order)
    return [integers[number * rows : (number + 1) * rows, back] for number in range(len(empty))]


class _Rule:
    """How each stacked row is rounded, column by column in their order. scale, zero: float32 (stacked rows, groups).
    group: int32 (columns,). low, high: float32 (stacked rows,). kept: bool (stacked rows, columns) or None."""

    def __init__(
        self,
        scale: torch.Tensor,
        zero: torch.Tensor,
        group: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        kept: torch.Tensor | None,
    ) -> None:
        self.scale, self.zero, self.group, self.low, self.high, self.kept = scale, zero, group, low, high, kept

    @staticmethod
    def of(empty: Sequence[QuantizedWeight], rows: int, order: torch.Tensor) -> _Rule:
        scales = [one.grid.scale.float() for one in empty]
        zeros = [
            torch.zeros_like(scale) if one.grid.zero_point is None else one.grid.zero_point.float()
            for one, scale in zip(empty, scales, strict=True)
        ]
        low, high = (
            torch.tensor([float(bounds(one.bits)[side]) for one in empty], device=order.device).repeat_interleave(rows)
            for side in (0, 1)
        )
        size = len(order) // scales[0].shape[1]
        masks = [one.mask[:, order] for one in empty if one.mask is not None]
        return _Rule(
            scale=torch.cat(scales).contiguous(),
            zero=torch.cat(zeros).contiguous(),
            group=(order // size).to(torch.int32),
            low=low,
            high=high,
            kept=torch.cat(masks) if masks else None,
        )


def _round_block(
    stacked: torch.Tensor,
    factor: torch.Tensor,
    rule: _Rule,
    integers: torch.Tensor,
    error: torch.Tensor,
    start: int,
    stop: int,
) -> None:
    """Round the columns [start, stop) one after another; integers and error (scaled by U's diagonal) are filled in."""
    if stacked.is_cuda:
        from workers.compression.kernels.gptq_kernels import round_block_on_gpu

        round_block_on_gpu(
            stacked,
            factor,
            scale=rule.scale,
            zero=rule.zero,
            group=rule.group,
            low=rule.low,
            high=rule.high,
            kept=rule.kept,
            integers=integers,
            error=error,
            start=start,
            stop=stop,
        )
        return
    # Columns as rows, which lie together in memory.
    block = stacked[:, start:stop].T.contiguous()
    groups = rule.group[start:stop].long()
    scales, zeros = rule.scale.T[groups].contiguous(), rule.zero.T[groups].contiguous()
    rounded, wrong = torch.empty_like(block), torch.empty_like(block)
    for column in range(stop - start):
        values, scale, zero = block[column], scales[column], zeros[column]
        here, off = rounded[column], wrong[column]
        torch.div(values, scale, out=here).add_(zero).round_().clamp_(min=rule.low, max=rule.high)
        if rule.kept is not None:
            torch.where(rule.kept[:, start + column], here, zero, out=here)
        torch.sub(here, zero, out=off).mul_(scale)
        torch.sub(values, off, out=off).div_(factor[start + column, start + column])
        block[column:] -= factor[start + column, start + column : stop, None] * off
    integers[:, start:stop] = rounded.T.to(torch.int8)
    error.copy_(wrong.T)
