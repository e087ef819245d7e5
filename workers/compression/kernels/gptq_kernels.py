"""GPTQ's inner loop and the search of grids as Triton kernels: one launch a block of columns, one a weight.

Imported only where tensors lie on a GPU; the CUDA builds of torch bring Triton with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from workers.stored_forms.integer_grid import SCALE_DTYPE, Grid, bounds, view_groups

ROWS = 32
SEARCH_ROWS = 32
# Columns of a group that one program holds in registers; a wider group is read again for every range tried.
MOST_COLUMNS = 128
# Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to the even one.
TO_INTEGER = tl.constexpr(12582912.0)


def round_block_on_gpu(
    stacked: torch.Tensor,
    factor: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor,
    group: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    kept: torch.Tensor | None,
    integers: torch.Tensor,
    error: torch.Tensor,
    start: int,
    stop: int,
) -> None:
    """What `gptq_loop._round_block` does, each program a few rows with the whole block in registers."""
    rows, columns = stacked.shape
    _round_block[(triton.cdiv(rows, ROWS),)](
        stacked,
        factor,
        scale,
        zero,
        group,
        low,
        high,
        stacked if kept is None else kept,
        integers,
        error,
        rows,
        columns,
        scale.shape[1],
        error.stride(0),
        start,
        stop - start,
        HAS_MASK=kept is not None,
        BLOCK=triton.next_power_of_2(stop - start),
        ROWS=ROWS,
        num_warps=4,
    )


@triton.jit
def _round_block(
    stacked,
    factor,
    scale,
    zero,
    group,
    low,
    high,
    kept,
    integers,
    error,
    rows,
    columns,
    groups,
    error_stride,
    start,
    width,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    live = row < rows
    inside = live[:, None] & (column < width)[None, :]
    place = row[:, None] * columns + start + column[None, :]
    weights = tl.load(stacked + place, mask=inside, other=0.0)
    least = tl.load(low + row, mask=live, other=0.0)
    most = tl.load(high + row, mask=live, other=0.0)
    wrongs = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for now in range(width):
        here = (column == now)[None, :]
        value = tl.sum(tl.where(here, weights, 0.0), axis=1)
        its_group = tl.load(group + start + now)
        step = tl.load(scale + row * groups + its_group, mask=live, other=1.0)
        origin = tl.load(zero + row * groups + its_group, mask=live, other=0.0)
        # Clamped before it is rounded, so that the rounding trick stays in its range; the bounds are integers.
        code = tl.minimum(tl.maximum(value / step + origin, least), most)
        code = (code + TO_INTEGER) - TO_INTEGER
        if HAS_MASK:
            stays = tl.load(kept + row * columns + start + now, mask=live, other=0)
            code = tl.where(stays != 0, code, origin)
        across = factor + (start + now).to(tl.int64) * columns + start
        wrong = (value - (code - origin) * step) / tl.load(across + now)
        line = tl.load(across + column, mask=(column >= now) & (column < width), other=0.0)
        weights -= wrong[:, None] * line[None, :]
        wrongs = tl.where(here, wrong[:, None], wrongs)
    # Taking away its error has left each column on its grid point: its code is read off it.
    its_groups = tl.load(group + start + column, mask=column < width, other=0)
    at = row[:, None] * groups + its_groups[None, :]
    codes = weights / tl.load(scale + at, mask=inside, other=1.0) + tl.load(zero + at, mask=inside, other=0.0)
    codes = (codes + TO_INTEGER) - TO_INTEGER
    tl.store(integers + place, codes.to(tl.int8), mask=inside)
    tl.store(error + row[:, None] * error_stride + column[None, :], wrongs, mask=inside)


def search_grid_on_gpu(
    weight: torch.Tensor,
    importance: torch.Tensor,
    shares: Sequence[float],
    bits: int,
    group_size: int,
    symmetric: bool,
) -> Grid:
    """What `grid_search.search_grid` does."""
    rows, columns = weight.shape
    ranges = view_groups(weight, group_size)
    groups, size = ranges.shape[1:]
    top = ranges.amax(dim=-1).float().clamp(min=0)
    bottom = ranges.amin(dim=-1).float().clamp(max=0)
    scale, zero = torch.empty_like(top), torch.empty_like(top)
    tried = torch.tensor(list(shares), dtype=torch.float32, device=weight.device)
    least, most = bounds(bits)
    chunk = triton.next_power_of_2(min(size, MOST_COLUMNS))
    _search_grid[(triton.cdiv(rows, SEARCH_ROWS), groups)](
        weight.contiguous(),
        importance.float().contiguous(),
        tried,
        top,
        bottom,
        scale,
        zero,
        rows,
        columns,
        groups,
        size,
        len(shares),
        float(least),
        float(most),
        SYMMETRIC=symmetric,
        ONE=chunk >= size,
        CHUNK=chunk,
        ROWS=SEARCH_ROWS,
        num_warps=4,
    )
    return Grid(scale.to(SCALE_DTYPE), None if symmetric else zero.to(torch.int8))


@triton.jit
def _search_grid(
    weight,
    importance,
    shares,
    tops,
    bottoms,
    scale_out,
    zero_out,
    rows,
    columns,
    groups,
    size,
    count,
    least,
    most,
    SYMMETRIC: tl.constexpr,
    ONE: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    group = tl.program_id(1)
    live = row < rows
    place = row * groups + group
    top = tl.load(tops + place, mask=live, other=0.0)
    bottom = tl.load(bottoms + place, mask=live, other=0.0)
    lane = tl.arange(0, CHUNK)
    start = weight + row[:, None] * columns + group * size
    heavy = importance + group * size
    inside = live[:, None] & (lane < size)[None, :]
    values = tl.load(start + lane[None, :], mask=inside, other=0.0).to(tl.float32)
    counts = tl.load(heavy + lane, mask=lane < size, other=0.0)
    best = tl.full((ROWS,), float("inf"), tl.float32)
    best_scale = tl.full((ROWS,), 1.0, tl.float32)
    best_zero = tl.full((ROWS,), 0.0, tl.float32)
    for number in range(count):
        share = tl.load(shares + number)
        if SYMMETRIC:
            step = tl.maximum(top, -bottom) * share / ((most - least) / 2)
        else:
            step = (top - bottom) * share / (most - least)
        # The stored scale is a bfloat16.
        step = step.to(tl.bfloat16).to(tl.float32)
        step = tl.where(step == 0.0, 1.0, step)
        origin = tl.zeros((ROWS,), dtype=tl.float32)
        if not SYMMETRIC:
            origin = tl.minimum(tl.maximum(least - bottom * share / step, least), most)
            origin = (origin + TO_INTEGER) - TO_INTEGER
        if ONE:
            error = tl.sum(_wrong(values, step, origin, least, most) * counts[None, :], axis=1)
        else:
            added = tl.zeros((ROWS, CHUNK), dtype=tl.float32)
            for begin in range(0, size, CHUNK):
                within = begin + lane < size
                part = tl.load(start + begin + lane[None, :], mask=live[:, None] & within[None, :], other=0.0)
                its_counts = tl.load(heavy + begin + lane, mask=within, other=0.0)
                added += _wrong(part.to(tl.float32), step, origin, least, most) * its_counts[None, :]
            error = tl.sum(added, axis=1)
        better = error < best
        best = tl.where(better, error, best)
        best_scale = tl.where(better, step, best_scale)
        best_zero = tl.where(better, origin, best_zero)
    tl.store(scale_out + place, best_scale, mask=live)
    tl.store(zero_out + place, best_zero, mask=live)


@triton.jit
def _wrong(values, step, origin, least, most):
    # One division a row and not one a weight: a range is chosen here, no weight is rounded yet.
    turns = 1.0 / step
    code = tl.minimum(tl.maximum(values * turns[:, None] + origin[:, None], least), most)
    code = (code + TO_INTEGER) - TO_INTEGER
    wrong = (code - origin[:, None]) * step[:, None] - values
    return wrong * wrong
