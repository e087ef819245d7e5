"""Integer grids for weights: scales and zero points a group, and the rounding of weights to them.

Shapes: a weight is (rows, columns) = (outputs, inputs); a group is `group_size` consecutive columns of one row, so
scales and zero points are (rows, groups). Integers lie in [-2^(bits-1), 2^(bits-1) - 1]; a weight ≈ (integer - zero
point) × scale. Scales are bfloat16, as they are stored, and zero points int8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

SCALE_DTYPE = torch.bfloat16
# In training, where a scale may shrink from step to step.
SMALLEST_SCALE = 1e-8


@dataclass(frozen=True, slots=True)
class Grid:
    """scale: bfloat16 (rows, groups). zero_point: int8 (rows, groups), or None where the grid is symmetric."""

    scale: torch.Tensor
    zero_point: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """integers: int8 (rows, columns). mask: bool (rows, columns), the weights that a sparse weight stores (as many in
    every row; all others are 0), or None for a dense one."""

    integers: torch.Tensor
    grid: Grid
    bits: int
    mask: torch.Tensor | None = None

    def dequantized(self) -> torch.Tensor:
        """The weight that is stored, float32 (rows, columns)."""
        values = on_grid(self.integers, self.grid)
        return values if self.mask is None else values * self.mask


def bounds(bits: int) -> tuple[int, int]:
    """The least and the largest integer of so many bits."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def view_groups(weight: torch.Tensor, group_size: int) -> torch.Tensor:
    """A view (rows, groups, columns a group); raises ValueError when the groups don't come out even."""
    rows, columns = weight.shape
    size = columns if group_size == -1 else group_size
    if columns % size:
        raise ValueError(f"group size {group_size} does not divide {columns} columns")
    return weight.reshape(rows, columns // size, size)


def refuse_not_finite(weight: torch.Tensor) -> None:
    """Raise ValueError for a weight that holds infinities or NaN."""
    if not torch.isfinite(weight).all():
        raise ValueError("a weight holds values that are not finite; the base model is damaged")


def fit_grid(
    weight: torch.Tensor, bits: int, group_size: int, symmetric: bool, shrink: float = 1.0, finite: bool = False
) -> Grid:
    """The grid that spans each group's weights: absmax when symmetric, else minimum to maximum, with 0 on the grid.

    shrink: the spanned range is multiplied by this; what then lies outside is clipped. A symmetric scale is the
    largest magnitude over (2^bits - 1) / 2, so that the grid's full width is used. finite: whether the weight is known
    to be; else raises ValueError for one that is not, and waits for the device to tell.
    """
    if not finite:
        refuse_not_finite(weight)
    return grid_over(ranges(view_groups(weight.float(), group_size), symmetric), bits, shrink)


@dataclass(frozen=True, slots=True)
class Ranges:
    """What each group's weights span, float32 (rows, groups): low and high, around 0; low is None where they are
    symmetric, and high the largest magnitude."""

    low: torch.Tensor | None
    high: torch.Tensor


def ranges(groups: torch.Tensor, symmetric: bool) -> Ranges:
    """The ranges of weights (rows, groups, columns a group)."""
    if symmetric:
        return Ranges(None, groups.abs().amax(dim=-1))
    return Ranges(groups.amin(dim=-1).clamp(max=0), groups.amax(dim=-1).clamp(min=0))


def grid_over(spanned: Ranges, bits: int, shrink: float = 1.0) -> Grid:
    """The grid over the ranges times `shrink`; see `fit_grid`."""
    high = spanned.high * shrink
    if spanned.low is None:
        return Grid(_stored(high / ((2**bits - 1) / 2)), None)
    low = spanned.low * shrink
    scale = _stored((high - low) / (2**bits - 1))
    least, most = bounds(bits)
    zero = torch.round(least - low / scale.float()).clamp(least, most)
    return Grid(scale, zero.to(torch.int8))


def _stored(scale: torch.Tensor) -> torch.Tensor:
    """As bfloat16; a group of zeros gets the scale 1."""
    stored = scale.to(SCALE_DTYPE)
    return torch.where(stored == 0, torch.ones_like(stored), stored)


def to_integers(weight: torch.Tensor, grid: Grid, bits: int) -> torch.Tensor:
    """Each weight's nearest integer on the grid, int8 (rows, columns); halves go to the even one."""
    groups = grid.scale.shape[1]
    scaled = weight.float().reshape(weight.shape[0], groups, -1) / grid.scale.float()[..., None]
    if grid.zero_point is not None:
        scaled = scaled + grid.zero_point.float()[..., None]
    return torch.round(scaled).clamp(*bounds(bits)).to(torch.int8).reshape(weight.shape)


def on_grid(integers: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(integer - zero point) × scale, float32 (rows, columns)."""
    values = integers.float().reshape(integers.shape[0], grid.scale.shape[1], -1)
    if grid.zero_point is not None:
        values = values - grid.zero_point.float()[..., None]
    return (values * grid.scale.float()[..., None]).reshape(integers.shape)
