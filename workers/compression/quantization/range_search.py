"""Grids that clip: for each group the range whose rounding errors, weighted by their inputs, add up to least.

Clipping outliers costs them, and gives every other weight of the group a finer grid; at 2 and 3 bits that pays
(the range search of AWQ, https://arxiv.org/abs/2306.00978 §3.2, by weighted squared error).
"""

from __future__ import annotations

import torch

from workers.stored_forms.integer_grid import Grid, bounds, grid_over, ranges, refuse_not_finite, view_groups

# The least share of the spanned range that is tried, and how many are: the fewer bits, the more clipping pays.
LEAST_SHARE = {8: 0.95, 4: 0.6, 3: 0.45, 2: 0.25}
STEPS = {8: 6, 4: 24, 3: 28, 2: 40}
ROWS_AT_ONCE = 2**24


def shares(bits: int) -> list[float]:
    """The shares of a group's range to try; the whole range comes first, and wins ties."""
    return shares_down_to(LEAST_SHARE[bits], STEPS[bits])


def shares_down_to(least: float, count: int) -> list[float]:
    """So many shares of a range, evenly from all of it to the least."""
    return [1.0 - (1.0 - least) * step / (count - 1) for step in range(count)]


def search_grid(weight: torch.Tensor, importance: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> Grid:
    """The best grid over `shares` for each group, by Σ importance · (weight - rounded)².

    weight: (rows, columns). importance: (columns,), at least 0. Raises ValueError for a weight that is not finite.
    """
    if weight.is_cuda:
        from workers.compression.kernels.gptq_kernels import search_grid_on_gpu

        refuse_not_finite(weight)
        return search_grid_on_gpu(
            weight, importance, shares=shares(bits), bits=bits, group_size=group_size, symmetric=symmetric
        )
    rows = max(ROWS_AT_ONCE // weight.shape[1], 1)
    parts = [
        _search(weight[start : start + rows], importance, bits, group_size, symmetric)
        for start in range(0, weight.shape[0], rows)
    ]
    zeros = [part.zero_point for part in parts if part.zero_point is not None]
    return Grid(torch.cat([part.scale for part in parts]), torch.cat(zeros) if zeros else None)


def _search(weight: torch.Tensor, importance: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> Grid:
    refuse_not_finite(weight)
    weights = view_groups(weight.float(), group_size)
    counted = importance.reshape(weights.shape[1:])
    spanned, rounded = ranges(weights, symmetric), torch.empty_like(weights)
    best: torch.Tensor | None = None
    scale = zero = None
    for share in shares(bits):
        grid = grid_over(spanned, bits, share)
        step = grid.scale.float()[..., None]
        torch.div(weights, step, out=rounded)
        if grid.zero_point is not None:
            rounded += grid.zero_point.float()[..., None]
        rounded.round_().clamp_(*bounds(bits))
        if grid.zero_point is not None:
            rounded -= grid.zero_point.float()[..., None]
        error = rounded.mul_(step).sub_(weights).square_().mul_(counted).sum(dim=-1)
        if best is None:
            best, scale, zero = error, grid.scale, grid.zero_point
            continue
        better = error < best
        best = torch.where(better, error, best)
        scale = torch.where(better, grid.scale, scale)
        zero = None if zero is None else torch.where(better, grid.zero_point, zero)
    assert scale is not None
    return Grid(scale, zero)
