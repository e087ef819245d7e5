"""Half-quadratic quantization: a grid fitted to the weights alone, under a norm that forgives outliers (HQQ)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from search_spaces.methods.quantizers import HQQ
from workers.compression.quantization.write_quantized import write_quantized
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import SCALE_DTYPE, Grid, QuantizedWeight, fit_grid, on_grid, to_integers

NORM = 0.7
ITERATIONS = 20
# In units of the group's scale: at 10, errors up to 0.17 of a step are fitted, and larger ones mostly forgiven.
BETA = 10.0
KAPPA = 1.01
WEIGHTS_AT_ONCE = 2**24


def compress(parent: Path, out: Path, step: HQQ, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`; nothing is calibrated."""
    return write_quantized(
        parent,
        out,
        lambda name, weight, mask: quantize(weight, step.bits, step.group_size, step.symmetric, mask),
        context,
    )


def quantize(
    weight: torch.Tensor, bits: int, group_size: int, symmetric: bool = False, mask: torch.Tensor | None = None
) -> QuantizedWeight:
    """A weight (rows, columns) on the grid of each group that leaves the least Σ|weight - dequantized|^0.7 found.

    mask: bool (rows, columns); the weights that it leaves out are 0, which every grid holds exactly, so they count
    neither as errors nor in the fit. Raises ValueError for a weight that is not finite or a group size that does not
    divide its columns.
    """
    rows = max(WEIGHTS_AT_ONCE // weight.shape[1], 1)
    grids = [fit(part, bits, group_size, symmetric) for part in weight.split(rows)]
    zeros = [grid.zero_point for grid in grids if grid.zero_point is not None]
    grid = Grid(torch.cat([grid.scale for grid in grids]), torch.cat(zeros) if zeros else None)
    return QuantizedWeight(to_integers(weight, grid, bits), grid, bits, mask)


def fit(weight: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> Grid:
    """Each group's best grid by `p_norm`, of the spanning one and all `iterates`: no group is worse than rounded to
    nearest. None is stopped early, since errors stand still for iterations and fall again as β grows."""
    best = fit_grid(weight, bits, group_size, symmetric)
    if weight.is_cuda:
        from workers.compression.kernels.hqq_kernels import SIZES, fit_on_gpu

        if weight.shape[1] // best.scale.shape[1] in SIZES:
            alternation = {"norm": NORM, "beta": BETA, "kappa": KAPPA, "iterations": ITERATIONS}
            return Grid(fit_on_gpu(weight, best, bits, **alternation), best.zero_point)
    error = p_norm(weight, best, bits)
    for grid in iterates(weight, best, bits):
        found = p_norm(weight, grid, bits)
        better = found < error
        error = torch.where(better, found, error)
        best = Grid(torch.where(better, grid.scale, best.scale), best.zero_point)
    return best


def iterates(weight: torch.Tensor, grid: Grid, bits: int) -> Iterator[Grid]:
    """The grids of the half-quadratic alternation, as they are stored (HQQ, https://mobiusml.github.io/hqq_blog).

    `soft_threshold` splits the outliers E off the errors; the scale is then that of least squares of W - E on the
    integers. The reference fits a zero point that is a float instead. Here it is stored as an integer, and never
    moves: an error that is not forgiven is below 0.18 of a step, so the zero point of least squares, the old one
    plus a mean of such errors, rounds to the old one.
    """
    shape = (weight.shape[0], grid.scale.shape[1], -1)
    groups = weight.float().reshape(shape)
    zero = 0.0 if grid.zero_point is None else grid.zero_point.float()[..., None]
    grid = Grid(grid.scale.float(), grid.zero_point)
    beta = BETA
    for _ in range(ITERATIONS):
        integers = to_integers(weight, grid, bits).float().reshape(shape) - zero
        steps = groups / grid.scale[..., None]
        target = steps - soft_threshold(steps - integers, beta)
        factor = (target * integers).sum(dim=-1) / integers.square().sum(dim=-1)
        # A group whose integers are all zero has no least-squares scale: 0 / 0.
        usable = torch.isfinite(factor) & (factor > 0)
        grid = Grid(torch.where(usable, grid.scale * factor, grid.scale), grid.zero_point)
        yield Grid(grid.scale.to(SCALE_DTYPE), grid.zero_point)
        beta *= KAPPA


def soft_threshold(error: torch.Tensor, beta: float) -> torch.Tensor:
    """The proximal step of |·|^0.7, generalised soft thresholding: sign(x) · max(|x| - |x|^(0.7 - 1) / β, 0).

    Small errors become 0, large ones stay nearly whole.
    """
    size = error.abs()
    # 0^-0.3 is infinite, and 0 - ∞ is cut to 0.
    return error.sign() * (size - size.pow(NORM - 1) / beta).clamp(min=0)


def p_norm(weight: torch.Tensor, grid: Grid, bits: int) -> torch.Tensor:
    """Σ over each group of |weight - stored weight|^0.7, float32 (rows, groups)."""
    error = (weight.float() - on_grid(to_integers(weight, grid, bits), grid)).abs().pow(NORM)
    return error.reshape(weight.shape[0], grid.scale.shape[1], -1).sum(dim=-1)
