"""HQQ's alternation as a Triton kernel: a group's weights are read once, and all its grids are tried in registers.

Torch's own operations pass over a weight some thirty times an iteration.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workers.stored_forms.integer_grid import Grid, bounds

ROWS = 32
# Columns of a group that a program holds.
SIZES = (16, 32, 64, 128, 256)
# Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to the even one.
TO_INTEGER = tl.constexpr(12582912.0)


def fit_on_gpu(
    weight: torch.Tensor, grid: Grid, bits: int, *, norm: float, beta: float, kappa: float, iterations: int
) -> torch.Tensor:
    """The best scale of each group by Σ|weight - stored weight|^norm, of the grid's own and of all that the alternation
    comes to: bfloat16 (rows, groups). Zero points stay.

    weight: (rows, columns), finite; its groups have one of SIZES. beta, kappa: of the first soft threshold, and what it
    is multiplied by after each iteration.
    """
    rows, width = weight.shape
    groups = grid.scale.shape[1]
    found = torch.empty_like(grid.scale)
    least, most = bounds(bits)
    _fit[(triton.cdiv(rows, ROWS), groups)](
        weight.contiguous(),
        grid.scale.contiguous(),
        grid.scale if grid.zero_point is None else grid.zero_point.contiguous(),
        found,
        rows,
        width,
        groups,
        float(least),
        float(most),
        norm,
        beta,
        kappa,
        iterations,
        HAS_ZERO=grid.zero_point is not None,
        SIZE=width // groups,
        ROWS=ROWS,
        num_warps=4,
    )
    return found


@triton.jit
def _fit(
    weight,
    scales,
    zeros,
    found,
    rows,
    width,
    groups,
    least,
    most,
    norm,
    beta,
    kappa,
    iterations,
    HAS_ZERO: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    group = tl.program_id(1)
    live = row < rows
    place = row[:, None] * width + group * SIZE + tl.arange(0, SIZE)[None, :]
    values = tl.load(weight + place, mask=live[:, None], other=0.0).to(tl.float32)
    scale = tl.load(scales + row * groups + group, mask=live, other=1.0).to(tl.float32)
    zero = tl.zeros_like(scale)
    if HAS_ZERO:
        zero = tl.load(zeros + row * groups + group, mask=live, other=0).to(tl.float32)
    best_scale = scale
    best = _norm(values - _integers(values / scale[:, None], zero, least, most) * scale[:, None], norm)
    for _ in range(iterations):
        steps = values / scale[:, None]
        integers = _integers(steps, zero, least, most)
        error = steps - integers
        size = tl.abs(error)
        # |0|^(norm - 1) is infinite, and 0 - ∞ is cut to 0.
        kept = tl.maximum(size - tl.exp2((norm - 1.0) * tl.log2(size)) / beta, 0.0)
        target = steps - tl.where(error < 0.0, -kept, kept)
        products = tl.sum(target * integers, axis=1)
        squares = tl.sum(integers * integers, axis=1)
        # A group whose integers are all zero has no least-squares scale.
        factor = tl.where(squares > 0.0, products / tl.maximum(squares, 1.0), 0.0)
        scale = tl.where(factor > 0.0, scale * factor, scale)
        stored = scale.to(tl.bfloat16).to(tl.float32)
        harm = _norm(values - _integers(values / stored[:, None], zero, least, most) * stored[:, None], norm)
        better = harm < best
        best = tl.where(better, harm, best)
        best_scale = tl.where(better, stored, best_scale)
        beta *= kappa
    tl.store(found + row * groups + group, best_scale.to(tl.bfloat16), mask=live)


@triton.jit
def _integers(steps, zero, least, most):
    """The nearest integers less the zero point."""
    # Clamped before it is rounded, so that the rounding trick stays in its range; the bounds are integers.
    code = tl.minimum(tl.maximum(steps + zero[:, None], least), most)
    return (code + TO_INTEGER) - TO_INTEGER - zero[:, None]


@triton.jit
def _norm(error, norm):
    return tl.sum(tl.exp2(norm * tl.log2(tl.abs(error))), axis=1)
