"""AWQ's two searches as Triton kernels: the error of rounding a scaled weight, and the range a group is clipped to.

Torch's own operations pass over a weight some twenty times for each scale or range that is tried; these pass over it
once a scale, and once for all ranges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from workers.stored_forms.integer_grid import SCALE_DTYPE, Grid, bounds, view_groups

ROWS = 32
# Columns of a group that a program holds beside its Hessian's block; products of fewer than 16 have no tensor cores.
SIZES = (16, 32, 64, 128)
# Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to the even one.
TO_INTEGER = tl.constexpr(12582912.0)


def rounding_error_on_gpu(
    weight: torch.Tensor,
    columns: torch.Tensor,
    bits: int,
    group_size: int,
    symmetric: bool,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """W - Q(W diag(s)) diag(1/s), Q being round-to-nearest: float32 (rows, columns).

    weight: (rows, columns), finite. columns: s, float32 (columns,). group_size: one of SIZES, which divides the
    columns. mask: bool (rows, columns), the weights that a sparse weight stores.
    """
    rows, width = weight.shape
    error = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    least, most = bounds(bits)
    weight = weight.contiguous()
    _rounding_error[(triton.cdiv(rows, ROWS), width // group_size)](
        weight,
        columns.float().contiguous(),
        weight if mask is None else mask.contiguous(),
        error,
        rows,
        width,
        float(least),
        float(most),
        HAS_MASK=mask is not None,
        SYMMETRIC=symmetric,
        SIZE=group_size,
        ROWS=ROWS,
        num_warps=4,
    )
    return error


@triton.jit
def _rounding_error(
    weight,
    columns,
    kept,
    error,
    rows,
    width,
    least,
    most,
    HAS_MASK: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    live = (row < rows)[:, None]
    place = row[:, None] * width + column[None, :]
    values = tl.load(weight + place, mask=live, other=0.0).to(tl.float32)
    factors = tl.load(columns + column)[None, :]
    scaled = values * factors
    top = tl.maximum(tl.max(scaled, axis=1), 0.0)
    bottom = tl.minimum(tl.min(scaled, axis=1), 0.0)
    step, origin = _grid(top, bottom, 1.0, least, most, SYMMETRIC)
    stored = _stored(scaled, step, origin, least, most) / factors
    if HAS_MASK:
        stays = tl.load(kept + place, mask=live, other=0)
        stored = tl.where(stays != 0, stored, 0.0)
    tl.store(error + place, values - stored, mask=live)


def search_clipping_on_gpu(
    weight: torch.Tensor,
    blocks: torch.Tensor,
    shares: Sequence[float],
    bits: int,
    symmetric: bool,
    mask: torch.Tensor | None = None,
) -> Grid:
    """For each group the grid over `shares` of its range whose error e has the least e H eᵀ; the first wins ties.

    weight: float32 (rows, columns), finite. blocks: the Hessian's, float32 (groups, columns a group, columns a group),
    of a size that is one of SIZES. mask: bool (rows, columns).
    """
    rows, width = weight.shape
    groups, size = blocks.shape[:2]
    ranges = view_groups(weight, size)
    top = ranges.amax(dim=-1).clamp(min=0)
    bottom = ranges.amin(dim=-1).clamp(max=0)
    scale, zero = torch.empty_like(top), torch.empty_like(top)
    least, most = bounds(bits)
    _search_clipping[(triton.cdiv(rows, ROWS), groups)](
        weight.contiguous(),
        blocks.contiguous(),
        weight if mask is None else mask.contiguous(),
        torch.tensor(list(shares), dtype=torch.float32, device=weight.device),
        top,
        bottom,
        scale,
        zero,
        rows,
        width,
        groups,
        len(shares),
        float(least),
        float(most),
        HAS_MASK=mask is not None,
        SYMMETRIC=symmetric,
        SIZE=size,
        ROWS=ROWS,
        num_warps=4,
    )
    return Grid(scale.to(SCALE_DTYPE), None if symmetric else zero.to(torch.int8))


@triton.jit
def _search_clipping(
    weight,
    blocks,
    kept,
    shares,
    tops,
    bottoms,
    scale_out,
    zero_out,
    rows,
    width,
    groups,
    count,
    least,
    most,
    HAS_MASK: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    group = tl.program_id(1)
    lane = tl.arange(0, SIZE)
    live = row < rows
    place = row[:, None] * width + group * SIZE + lane[None, :]
    values = tl.load(weight + place, mask=live[:, None], other=0.0)
    if HAS_MASK:
        stays = tl.load(kept + place, mask=live[:, None], other=0) != 0
    block = tl.load(blocks + group * SIZE * SIZE + lane[:, None] * SIZE + lane[None, :])
    its_range = row * groups + group
    top = tl.load(tops + its_range, mask=live, other=0.0)
    bottom = tl.load(bottoms + its_range, mask=live, other=0.0)
    best = tl.full((ROWS,), float("inf"), tl.float32)
    best_scale = tl.full((ROWS,), 1.0, tl.float32)
    best_zero = tl.full((ROWS,), 0.0, tl.float32)
    for number in range(count):
        step, origin = _grid(top, bottom, tl.load(shares + number), least, most, SYMMETRIC)
        stored = _stored(values, step, origin, least, most)
        if HAS_MASK:
            stored = tl.where(stays, stored, 0.0)
        wrong = values - stored
        harm = tl.sum(tl.dot(wrong, block, input_precision="tf32x3") * wrong, axis=1)
        better = harm < best
        best = tl.where(better, harm, best)
        best_scale = tl.where(better, step, best_scale)
        best_zero = tl.where(better, origin, best_zero)
    tl.store(scale_out + its_range, best_scale, mask=live)
    tl.store(zero_out + its_range, best_zero, mask=live)


@triton.jit
def _grid(top, bottom, share, least, most, SYMMETRIC: tl.constexpr):
    if SYMMETRIC:
        step = tl.maximum(top, -bottom) * share / ((most - least) / 2)
    else:
        step = (top - bottom) * share / (most - least)
    # The stored scale is a bfloat16.
    step = step.to(tl.bfloat16).to(tl.float32)
    step = tl.where(step == 0.0, 1.0, step)
    origin = tl.zeros_like(step)
    if not SYMMETRIC:
        origin = tl.minimum(tl.maximum(least - bottom * share / step, least), most)
        origin = (origin + TO_INTEGER) - TO_INTEGER
    return step, origin


@triton.jit
def _stored(values, step, origin, least, most):
    # Clamped before it is rounded, so that the rounding trick stays in its range; the bounds are integers.
    code = tl.minimum(tl.maximum(values / step[:, None] + origin[:, None], least), most)
    code = (code + TO_INTEGER) - TO_INTEGER
    return (code - origin[:, None]) * step[:, None]
