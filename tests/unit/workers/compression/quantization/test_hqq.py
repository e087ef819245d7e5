"""Half-quadratic quantization: the proximal step by hand, never worse than round-to-nearest by its norm, and what is
stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.methods.quantizers import HQQ
from search_spaces.predicted_size import predicted_bytes
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.compression.quantization import hqq
from workers.compression.quantization.hqq import compress, p_norm, quantize, soft_threshold
from workers.compression.quantization.rtn import quantize as round_to_nearest
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.checkpoint import dense_tensors
from workers.stored_forms.integer_grid import bounds
from workers.translation.prompts import PROMPTS

CPU = CompressionContext((), PROMPTS["alma"], torch.device("cpu"), 0)


def heavy_tailed(rows: int = 48, columns: int = 256) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.distributions.StudentT(4.0).sample((rows, columns)) * 0.02


def test_soft_threshold_as_worked_out_by_hand() -> None:
    # |x| - |x|^-0.3 / 10: 1 - 0.1 = 0.9; 2 - 0.08123 = 1.91877; 0.1 - 0.19953 is below 0; 0^-0.3 is infinite.
    found = soft_threshold(torch.tensor([1.0, -2.0, 0.1, 0.0]), 10.0)
    assert found.tolist() == pytest.approx([0.9, -1.91877, 0.0, 0.0], abs=1e-5)


def test_an_outlier_is_clipped_so_that_the_other_weights_lie_on_the_grid() -> None:
    # All but 4.2 are whole numbers of the grid -4 … 3 with scale 1; round-to-nearest has the scale 4.2 / 3.5 = 1.2.
    row = [1.0, -1, 2, -2, 3, -3, 2, 1, 1, -1, 2, -2, 3, -3, 2, 4.2]
    found = quantize(torch.tensor([row]), bits=3, group_size=-1, symmetric=True)
    assert found.grid.scale.item() == pytest.approx(1.0, abs=0.005)
    assert found.integers.tolist() == [[1, -1, 2, -2, 3, -3, 2, 1, 1, -1, 2, -2, 3, -3, 2, 3]]


def test_no_error_that_is_fitted_could_move_a_zero_point() -> None:
    errors = torch.linspace(-20, 20, 400_001)
    assert (errors - soft_threshold(errors, hqq.BETA)).abs().max() < 0.18


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "most"), [(4, 0.98), (3, 0.95), (2, 0.85)])
@pytest.mark.parametrize("size", [32, 64, -1])
def test_no_group_is_worse_than_round_to_nearest_and_all_together_are_better(
    bits: int, most: float, size: int, symmetric: bool
) -> None:
    weight = heavy_tailed()
    ours, nearest = (one(weight, bits, size, symmetric) for one in (quantize, round_to_nearest))
    found, before = (p_norm(weight, one.grid, bits) for one in (ours, nearest))
    assert bool((found <= before).all())
    assert found.sum() < most * before.sum()
    # What was judged is what is stored.
    errors = (weight - ours.dequantized()).abs().pow(0.7).sum()
    assert errors.item() == pytest.approx(found.sum().item(), rel=1e-5)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_scales_are_bfloat16_and_zero_points_integers_of_the_bits(bits: int) -> None:
    found = quantize(heavy_tailed(), bits, 32)
    assert found.grid.scale.dtype == torch.bfloat16
    assert bool((found.grid.scale > 0).all())
    assert found.grid.zero_point is not None and found.grid.zero_point.dtype == torch.int8
    low, high = bounds(bits)
    for values in (found.grid.zero_point, found.integers):
        assert low <= int(values.min()) and int(values.max()) <= high


@pytest.mark.parametrize("symmetric", [True, False])
def test_masked_weights_do_not_count_and_stay_zero(symmetric: bool) -> None:
    mask = torch.rand(48, 256, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, :128] = torch.arange(128) % 2 == 0
    mask[3, 128:192] = False
    weight = heavy_tailed() * mask
    found = quantize(weight, 3, 64, symmetric, mask)
    assert found.dequantized()[~mask].count_nonzero() == 0
    assert found.dequantized().isfinite().all()
    # The first two groups of 64, of which every other weight is kept, have the grid of the 32 that are kept and a 0.
    kept = torch.nn.functional.pad(weight[:, :128:2].reshape(48, 2, 32), (0, 1)).reshape(48, 66)
    assert torch.equal(quantize(kept, 3, 33, symmetric).grid.scale, found.grid.scale[:, :2])


def test_a_group_of_zeros_stays_zeros() -> None:
    weight = heavy_tailed(4, 128)
    weight[1, 64:] = 0
    for symmetric in (True, False):
        assert quantize(weight, 4, 64, symmetric).dequantized()[1, 64:].count_nonzero() == 0


def test_rows_a_block_at_a_time_are_rows_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = heavy_tailed()
    mask = weight.abs() > 0.01
    whole = quantize(weight * mask, 3, 64, mask=mask)
    monkeypatch.setattr(hqq, "WEIGHTS_AT_ONCE", 7 * 256)
    parts = quantize(weight * mask, 3, 64, mask=mask)
    assert torch.equal(parts.integers, whole.integers)
    assert torch.equal(parts.dequantized(), whole.dequantized())


def test_a_weight_that_is_not_finite_is_refused() -> None:
    weight = heavy_tailed()
    weight[5, 7] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        quantize(weight, 4, 64)


@pytest.mark.parametrize("step", [HQQ(bits=3, group_size=32), HQQ(bits=4, symmetric=True)], ids=str)
def test_the_folder_loads_as_the_dequantized_weights_in_the_predicted_bytes(
    save_llama: Any, tmp_path: Path, step: HQQ
) -> None:
    folder: Path = save_llama(initializer_range=0.2, vocab_size=4000)
    before = read_checkpoint(folder)
    report = compress(folder, tmp_path, step, CPU)
    targeted = sum(tensor.parameters for tensor in before.targets().values())
    assert (report.targeted, report.changed) == (targeted, targeted)
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted_bytes(before, (step,)), rel=0.005)

    expected = load_model(folder, "cpu")
    parameters = dict(expected.named_parameters())
    for name, weight, _ in dense_tensors(folder, torch.device("cpu")):
        if name in before.targets():
            parameters[name].data = quantize(weight, step.bits, step.group_size, step.symmetric).dequantized()
    ids = torch.tensor([[1, 40, 7, 90, 33, 5, 61]])
    with torch.inference_mode():
        wanted, found = (model(ids).logits for model in (expected, load_model(tmp_path, "cpu")))
    assert (found - wanted).abs().max() < 1e-5
