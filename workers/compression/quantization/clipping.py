"""Clipped grids for weights that are rounded to nearest: the search of AWQ for each group's range."""

from __future__ import annotations

import torch

from workers.calibration.output_error import diagonal_blocks, group_errors, row_errors
from workers.compression.quantization import range_search
from workers.stored_forms.integer_grid import Grid, QuantizedWeight, fit_grid, to_integers

# How many shares of the full range are tried, and the least of them.
SHARES = 20
LEAST_SHARE = range_search.LEAST_SHARE | {8: 0.9}
WEIGHTS_AT_ONCE = 2**24


def quantize_clipped(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    bits: int,
    group_size: int,
    symmetric: bool,
    mask: torch.Tensor | None = None,
) -> QuantizedWeight:
    """A weight (rows, columns) rounded to nearest, each group's range the one whose outputs err least.

    A group is judged by the Hessian's block on the diagonal (AWQ, https://arxiv.org/abs/2306.00978: its code, not the
    paper, describes the search). Blocks know nothing of each other, so a row whose error by the whole Hessian is no
    lower than with full ranges keeps those: no row is worse than round-to-nearest. mask: bool, the weights of a sparse
    weight that stay. Raises ValueError for a weight that is not finite or groups that don't come out even.
    """
    weight = weight.float()
    rows = max(WEIGHTS_AT_ONCE // weight.shape[1], 1)
    masks = [None] * -(-weight.shape[0] // rows) if mask is None else mask.split(rows)
    grids = [
        _search(part, hessian, bits=bits, group_size=group_size, symmetric=symmetric, mask=part_mask)
        for part, part_mask in zip(weight.split(rows), masks, strict=True)
    ]
    zeros = [grid.zero_point for grid in grids if grid.zero_point is not None]
    grid = Grid(torch.cat([grid.scale for grid in grids]), torch.cat(zeros) if zeros else None)
    return QuantizedWeight(to_integers(weight, grid, bits), grid, bits, mask)


def _search(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    bits: int,
    group_size: int,
    symmetric: bool,
    mask: torch.Tensor | None,
) -> Grid:
    full = fit_grid(weight, bits, group_size, symmetric)
    blocks = diagonal_blocks(hessian, full.scale.shape[1])
    if on_kernels(weight, blocks.shape[1]):
        from workers.compression.kernels.awq_kernels import search_clipping_on_gpu

        best = search_clipping_on_gpu(weight, blocks, shares=shares(bits), bits=bits, symmetric=symmetric, mask=mask)
    else:
        best = _search_blocks(weight, blocks, full, bits, mask)
    clipped, whole = (row_errors(_wrong(weight, grid, bits, mask), hessian) for grid in (best, full))
    return choose_grids((clipped < whole)[:, None], best, full)


def _search_blocks(
    weight: torch.Tensor, blocks: torch.Tensor, full: Grid, bits: int, mask: torch.Tensor | None
) -> Grid:
    best, size = full, blocks.shape[1]
    least = group_errors(_wrong(weight, full, bits, mask), blocks)
    for share in shares(bits)[1:]:
        grid = fit_grid(weight, bits, size, full.zero_point is None, shrink=share, finite=True)
        error = group_errors(_wrong(weight, grid, bits, mask), blocks)
        best = choose_grids(error < least, grid, best)
        least = torch.minimum(error, least)
    return best


def shares(bits: int) -> list[float]:
    """The shares of a group's range to try; the whole range comes first, and wins ties."""
    return range_search.shares_down_to(LEAST_SHARE[bits], SHARES)


def on_kernels(weight: torch.Tensor, size: int) -> bool:
    """Whether a weight lies where the kernels run, its groups of a size that they hold."""
    if not weight.is_cuda:
        return False
    from workers.compression.kernels.awq_kernels import SIZES

    return size in SIZES


def choose_grids(which: torch.Tensor, one: Grid, other: Grid) -> Grid:
    """The one grid where `which`, bool (rows, groups) or (rows, 1), is True, and the other elsewhere."""
    scale = torch.where(which, one.scale, other.scale)
    if one.zero_point is None or other.zero_point is None:
        return Grid(scale, None)
    return Grid(scale, torch.where(which, one.zero_point, other.zero_point))


def _wrong(weight: torch.Tensor, grid: Grid, bits: int, mask: torch.Tensor | None) -> torch.Tensor:
    stored = QuantizedWeight(to_integers(weight, grid, bits), grid, bits, mask).dequantized()
    return weight - stored
