"""Integer grids: scales, zero points and rounding as worked out by hand, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from workers.stored_forms.integer_grid import (
    SCALE_DTYPE,
    Grid,
    QuantizedWeight,
    bounds,
    fit_grid,
    on_grid,
    to_integers,
    view_groups,
)

WIDTHS = (2, 3, 4, 8)


def test_a_symmetric_grid_spans_the_largest_magnitude_of_each_group() -> None:
    weight = torch.tensor([[3.0, -1.5, 0.5, 0.25], [0.0, 0.0, -12.0, 6.0]])
    # (2^2 - 1) / 2 = 1.5: 3 / 1.5, 0.5 / 1.5 in bfloat16, 1 for a group of zeros, 12 / 1.5.
    grid = fit_grid(weight, bits=2, group_size=2, symmetric=True)
    assert grid.zero_point is None
    assert grid.scale.dtype == SCALE_DTYPE
    assert grid.scale.tolist() == [[2.0, torch.tensor(1 / 3).bfloat16().item()], [1.0, 8.0]]


def test_an_asymmetric_grid_spans_minimum_to_maximum_with_zero_on_it() -> None:
    weight = torch.tensor([[-1.0, 0.5, 2.0, 0.0], [1.0, 2.0, 3.0, 2.5], [-6.0, -3.0, -1.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
    # Row 1: (2 + 1) / 3 = 1, and -1 at the integer -2 puts 0 at -2 + 1 = -1.
    # Row 2 has no weight below 0, so 0 is its minimum: 3 / 3 = 1, and 0 at -2.
    # Row 3 has none above 0: 6 / 3 = 2, and -6 at -2 puts 0 at -2 + 3 = 1. Row 4: the scale 1, and 0 at -2.
    grid = fit_grid(weight, bits=2, group_size=-1, symmetric=False)
    assert grid.scale.tolist() == [[1.0], [1.0], [2.0], [1.0]]
    assert grid.zero_point is not None
    assert grid.zero_point.dtype == torch.int8
    assert grid.zero_point.tolist() == [[-1], [-2], [1], [-2]]
    # Row 1 is -1, 0.5, 2, 0 steps from 0: at -2, round(-0.5) = 0 (halves go to the even integer), 1, -1.
    # Row 2: -2 + 1, -2 + 2, -2 + 3, round(0.5) = 0. Row 3: 1 - 3, round(-0.5) = 0, round(0.5) = 0, 1 - 1.
    integers = to_integers(weight, grid, bits=2)
    assert integers.tolist() == [[-2, 0, 1, -1], [-1, 0, 1, 0], [-2, 0, 0, 0], [-2, -2, -2, -2]]
    assert on_grid(integers, grid).tolist() == [
        [-1.0, 1.0, 2.0, 0.0],
        [1.0, 2.0, 3.0, 2.0],
        [-6.0, -2.0, -2.0, -2.0],
        [0.0, 0.0, 0.0, 0.0],
    ]


def test_a_shrunken_grid_clips_what_lies_outside() -> None:
    weight = torch.tensor([[8.0, -8.0, 1.0, 0.0]])
    # 8 × 0.9375 / 7.5 = 1: what is 8 steps out is cut to 7 and to -8.
    grid = fit_grid(weight, bits=4, group_size=-1, symmetric=True, shrink=0.9375)
    assert grid.scale.tolist() == [[1.0]]
    assert to_integers(weight, grid, bits=4).tolist() == [[7, -8, 1, 0]]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_weight_is_within_a_step_of_its_point_and_the_whole_width_is_used(bits: int, symmetric: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(256, 128)
    grid = fit_grid(weight, bits, 32, symmetric)
    integers = to_integers(weight, grid, bits)
    assert (integers.min(), integers.max()) == bounds(bits)
    # Half a step from rounding; half a step at a symmetric grid's upper end; the scale's own rounding, 2^-9 of the
    # span of 2^bits steps; half a step from the zero point's rounding.
    steps = (on_grid(integers, grid) - weight).abs() / grid.scale.float().repeat_interleave(32, dim=1)
    assert steps.max() <= 1.0 + 2**bits * 2**-9 + 1e-3
    assert steps.mean() < 0.3


def test_a_groups_zeros_are_zeros_on_an_asymmetric_grid() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 64) + 0.3
    weight[:, ::3] = 0
    for bits in WIDTHS:
        grid = fit_grid(weight, bits, 32, symmetric=False)
        assert on_grid(to_integers(weight, grid, bits), grid)[:, ::3].count_nonzero() == 0


def test_a_sparse_weight_is_zero_outside_its_mask() -> None:
    mask = torch.tensor([[True, False], [False, True]])
    weight = QuantizedWeight(torch.ones(2, 2, dtype=torch.int8), Grid(torch.full((2, 1), 0.5), None), 4, mask)
    assert weight.dequantized().tolist() == [[0.5, 0.0], [0.0, 0.5]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_grid(torch.tensor([[1.0, value]]), 4, -1, True)


def test_groups_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(ValueError, match="32 does not divide 48 columns"):
        view_groups(torch.zeros(2, 48), 32)
