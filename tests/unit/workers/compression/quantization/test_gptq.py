"""GPTQ against its definition column by column, its grids, and what it gains on held-out inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import GPTQ
from tests.support.examples import segment
from workers.calibration.hessian_inverse import inverse_factor
from workers.compression.quantization import gptq_loop
from workers.compression.quantization.gptq import column_order, factor_of, quantize, quantize_widths
from workers.compression.quantization.gptq_loop import quantize_columns
from workers.compression.quantization.range_search import search_grid, shares
from workers.compression.quantization.rtn import quantize as round_to_nearest
from workers.evaluation import methods as registry
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.integer_grid import QuantizedWeight, fit_grid, on_grid, to_integers
from workers.translation.prompts import PROMPTS

CPU = torch.device("cpu")
UNREAD = torch.empty(0, dtype=torch.int8)


def problem(rows: int = 12, columns: int = 96, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and the Hessian of correlated inputs of unlike sizes."""
    torch.manual_seed(seed)
    inputs = torch.randn(4 * columns, columns) @ torch.randn(columns, columns) / columns**0.5
    inputs = inputs + 0.3 * torch.randn(4 * columns, columns)
    inputs *= torch.rand(columns) * 3
    return torch.randn(rows, columns), inputs.T @ inputs / len(inputs)


def error(weight: torch.Tensor, quantized: QuantizedWeight, hessian: torch.Tensor) -> float:
    difference = (quantized.dequantized() - weight).double()
    return float(((difference @ hessian.double()) * difference).sum())


def by_definition(weight: torch.Tensor, hessian: torch.Tensor, like: QuantizedWeight) -> torch.Tensor:
    """Optimal brain quantization in fixed column order, float64: round a column, then move all later ones by the
    closed form of https://arxiv.org/abs/2210.17323 eq. 2, with the inverse of the Hessian that is left."""
    left = weight.double().clone()
    columns = weight.shape[1]
    found = torch.empty(weight.shape)
    scale = like.grid.scale.double().repeat_interleave(columns // like.grid.scale.shape[1], dim=1)
    for column in range(columns):
        inverse = torch.linalg.inv(hessian.double()[column:, column:])
        code = torch.round(left[:, column] / scale[:, column]).clamp(-(2 ** (like.bits - 1)), 2 ** (like.bits - 1) - 1)
        wrong = (left[:, column] - code * scale[:, column]) / inverse[0, 0]
        left[:, column:] -= wrong[:, None] * inverse[0]
        found[:, column] = code
    return found


@pytest.mark.parametrize(("block", "span"), [(128, 1024), (16, 32), (7, 20)])
def test_the_blocked_loop_is_the_definition(block: int, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gptq_loop, "BLOCK", block)
    monkeypatch.setattr(gptq_loop, "SPAN", span)
    weight, hessian = problem()
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(96)
    empty = QuantizedWeight(UNREAD, fit_grid(weight, 4, 32, True), 4)
    (integers,) = quantize_columns(weight, inverse_factor(hessian, 0.01), [empty], None)
    assert torch.equal(integers.float(), by_definition(weight, damped, empty))


def test_an_order_of_columns_keeps_each_column_in_its_own_group() -> None:
    weight, hessian = problem()
    order = column_order(hessian)
    assert (hessian.diagonal()[order].diff() <= 0).all()
    empty = QuantizedWeight(UNREAD, fit_grid(weight, 4, 32, True), 4)
    factor = inverse_factor(hessian[order][:, order], 0.01)
    (integers,) = quantize_columns(weight, factor, [empty], order)
    scale = empty.grid.scale.repeat_interleave(32, dim=1)
    by_column = QuantizedWeight(UNREAD, type(empty.grid)(scale[:, order], None), 4)
    (moved,) = quantize_columns(weight[:, order], factor, [by_column], None)
    assert torch.equal(integers[:, order], moved)


def test_several_widths_at_once_are_each_width_alone() -> None:
    weight, hessian = problem()
    factor, order = factor_of(hessian, 0.01)
    together = quantize_widths(weight, factor, order, (8, 4, 3, 2), 32)
    for found, bits in zip(together, (8, 4, 3, 2), strict=True):
        alone = quantize(weight, hessian, bits, 32)
        assert torch.equal(found.integers, alone.integers)
        assert torch.equal(found.grid.scale, alone.grid.scale)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_its_error_is_well_below_that_of_rounding(bits: int, symmetric: bool) -> None:
    weight, hessian = problem(rows=64)
    rounded = error(weight, round_to_nearest(weight, bits, 32, symmetric), hessian)
    assert error(weight, quantize(weight, hessian, bits, 32, symmetric), hessian) < 0.6 * rounded


def test_bfloat16_inputs_summed_in_float32_lose_nothing_at_two_bits_against_float64() -> None:
    torch.manual_seed(1)
    inputs = ((torch.randn(4000, 128) @ torch.randn(128, 128) / 11) * torch.rand(128)).bfloat16()
    weight = torch.randn(64, 128)
    summed = torch.zeros(128, 128)
    for rows in inputs.split(500):
        summed += rows.float().T @ rows.float()
    exact = inputs.double().T @ inputs.double()
    by_float32 = quantize(weight, summed / len(inputs), 2, 64)
    by_float64 = quantize(weight, (exact / len(inputs)).float(), 2, 64)
    assert abs(error(weight, by_float32, exact) / error(weight, by_float64, exact) - 1) < 1e-3


def test_the_search_takes_the_best_of_its_ranges_for_every_group() -> None:
    weight, hessian = problem(rows=5)
    importance = hessian.diagonal()
    found = search_grid(weight, importance, 3, 32, False)

    def errors(grid: Any) -> torch.Tensor:
        wrong = (on_grid(to_integers(weight, grid, 3), grid) - weight).square() * importance
        return wrong.reshape(5, 3, 32).sum(dim=-1)

    tried = torch.stack([errors(fit_grid(weight, 3, 32, False, share)) for share in shares(3)])
    assert torch.equal(errors(found), tried.amin(dim=0))
    assert (errors(found) < tried[0]).any()


def test_masked_weights_stay_zero_and_the_others_make_up_for_them() -> None:
    weight, hessian = problem(rows=32)
    kept = torch.zeros(32, 96, dtype=torch.bool)
    kept.view(32, 48, 2)[..., 0] = True
    found = quantize(weight * kept, hessian, 3, 32, False, mask=kept)
    assert (found.dequantized()[~kept] == 0).all()
    plainly = round_to_nearest(weight * kept, 3, 32, False, kept)
    assert error(weight * kept, found, hessian) < error(weight * kept, plainly, hessian)


def test_a_hessian_of_low_rank_and_dead_inputs_is_quantized() -> None:
    weight, _ = problem(rows=8)
    inputs = torch.randn(10, 96)
    inputs[:, 40:50] = 0
    found = quantize(weight, inputs.T @ inputs / 10, 4, 32)
    assert torch.isfinite(found.dequantized()).all()
    assert (found.dequantized() - weight).abs().max() < 2 * weight.abs().max()


def test_a_group_size_that_does_not_divide_is_refused() -> None:
    weight, hessian = problem()
    with pytest.raises(ValueError, match="group size 64 does not divide 96 columns"):
        quantize(weight, hessian, 4, 64)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    weight, hessian = problem()
    weight[3, 5] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        quantize(weight, hessian, 4, 32)


def test_a_folder_of_it_runs_and_needs_calibration(save_llama: Any, tmp_path: Path) -> None:
    folder = save_llama(initializer_range=0.2)
    pairs = [segment(f"{count} dogs run.", f"{count} Hunde rennen.", id=str(count)) for count in range(30)]
    store = tmp_path / "store"
    context = CompressionContext(pairs, PROMPTS["alma"], CPU, 0, store=store, parent_key="parent")
    out = tmp_path / "out"
    out.mkdir()
    report = registry.compress(folder, out, GPTQ(bits=3, group_size=32, symmetric=False), context)
    assert report.changed == report.targeted > 0
    ids = torch.tensor([[1, 40, 7, 90, 33, 5, 61]])
    with torch.inference_mode():
        assert load_model(out, "cpu")(ids).logits.isfinite().all()
    with pytest.raises(StudyError, match="needs calibration pairs"):
        registry.compress(
            folder, out, GPTQ(bits=4), CompressionContext((), PROMPTS["alma"], CPU, 0, store=store, parent_key="other")
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [64, -1])
def test_the_kernels_do_what_the_loop_on_the_cpu_does(symmetric: bool, group_size: int) -> None:
    weight, hessian = problem(rows=200, columns=640)
    factor, order = factor_of(hessian, 0.01)
    assert order is not None
    here = quantize_widths(weight, factor, order, (8, 4, 3, 2), group_size, symmetric)
    there = quantize_widths(weight.cuda(), factor.cuda(), order.cuda(), (8, 4, 3, 2), group_size, symmetric)
    for one, other in zip(here, there, strict=True):
        assert (one.grid.scale == other.grid.scale.cpu()).float().mean() > 0.99
        moved = QuantizedWeight(
            other.integers.cpu(),
            type(one.grid)(
                other.grid.scale.cpu(), None if other.grid.zero_point is None else other.grid.zero_point.cpu()
            ),
            other.bits,
        )
        assert abs(error(weight, moved, hessian) / error(weight, one, hessian) - 1) < 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_kernels_keep_a_mask() -> None:
    weight, hessian = problem(rows=40, columns=320)
    kept = torch.rand(40, 320) > 0.5
    factor, order = factor_of(hessian, 0.01)
    assert order is not None
    (found,) = quantize_widths((weight * kept).cuda(), factor.cuda(), order.cuda(), (4,), 64, False, kept.cuda())
    assert (found.dequantized().cpu()[~kept] == 0).all()
