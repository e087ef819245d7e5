"""SparseGPT: against hand-worked and float64 references, across blocks, and against what its two baselines leave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import Magnitude, SparseGPT, Wanda
from tests.support.paths import ROOT
from workers.calibration.calibrate import statistics_of
from workers.calibration.hessian_inverse import inverse_factor
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.pruning import wanda
from workers.compression.pruning.sparsegpt import BLOCK, sparsify
from workers.compression.pruning.write_sparse import kept_mask
from workers.evaluation import methods as registry
from workers.plan.compression_context import CompressionContext
from workers.reading.dataset import read_dataset
from workers.stored_forms.checkpoint import dense_tensors
from workers.translation.prompts import PROMPTS

CAPTIONS = ROOT / "models" / "captions"
STEPS = [SparseGPT(sparsity=0.3), SparseGPT(sparsity=0.5), SparseGPT(sparsity=0.7), SparseGPT(pattern="2:4")]


def trained_like(
    columns: int, rows: int = 64, tokens: int = 2000, seed: int = 0, rank: int = 32
) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and the mean x xᵀ of inputs as models have them: a few shared directions, noise, outlier channels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    inputs = inputs / rank**0.5 + 0.5 * torch.randn(tokens, columns, generator=generator)
    inputs = inputs * torch.exp(0.7 * torch.randn(columns, generator=generator))
    weight = torch.randn(rows, columns, generator=generator)
    return weight, inputs.T @ inputs / tokens


def run(weight: torch.Tensor, hessian: torch.Tensor, step: SparseGPT) -> tuple[torch.Tensor, torch.Tensor]:
    return sparsify(weight, inverse_factor(hessian, 0.01), hessian.diagonal() == 0, step)


def damped(hessian: torch.Tensor) -> torch.Tensor:
    exact = hessian.double()
    return exact + 0.01 * exact.diagonal().mean() * torch.eye(len(exact), dtype=torch.float64)


def output_error(wrong: torch.Tensor, hessian: torch.Tensor) -> float:
    """tr(Δ H Δᵀ): the mean over tokens of the squared error of a layer's output."""
    return float(((wrong.double() @ hessian.double()) * wrong.double()).sum())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_kernel_does_what_the_cpu_does(step: SparseGPT) -> None:
    weight, hessian = trained_like(columns=328, rows=70)
    hessian[:, 7] = hessian[7] = 0.0
    factor, dead = inverse_factor(hessian, 0.01), hessian.diagonal() == 0
    here, kept = sparsify(weight, factor, dead, step)
    there, moved = (found.cpu() for found in sparsify(weight.cuda(), factor.cuda(), dead.cuda(), step))
    assert bool((moved.sum(dim=1) == kept.sum(dim=1)).all())
    assert not there[~moved].any()
    if step.pattern == "2:4":
        assert bool((moved.reshape(70, -1, 4).sum(dim=-1) == 2).all())
    # Sums in another order turn a near tie here and there.
    assert (moved == kept).float().mean() > 0.995
    assert output_error(weight - there, hessian) == pytest.approx(output_error(weight - here, hessian), rel=0.01)


def test_two_weights_as_worked_out_by_hand() -> None:
    # H = [[2, 1], [1, 1]] has the inverse [[1, -1], [-1, 2]], whose factor is U = [[1, -1], [0, 1]].
    # First row: 1² / 1 < 3² / 1, so the 1 goes. Its error 1 moves the second weight by 1 · 1: 3 becomes 4, which is
    # (w H)₂ / H₂₂ = (1 + 3) / 1. Second row: the -0.5 goes, and no column is left to make up for it.
    weight = torch.tensor([[1.0, 3.0], [2.0, -0.5]])
    factor = torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    found, mask = sparsify(weight, factor, torch.tensor([False, False]), SparseGPT(sparsity=0.5))
    assert found.tolist() == [[0.0, 4.0], [2.0, 0.0]]
    assert mask.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_compensation_across_blocks_is_that_of_one_exact_elimination_after_another(step: SparseGPT) -> None:
    weight, hessian = trained_like(BLOCK + 72, rows=8)
    found, mask = run(weight, hessian, step)
    exact = damped(hessian)
    expected = weight.double()
    for column in range(weight.shape[1]):
        # The inverse for the columns not yet fixed; removal by OBS (Hassibi and Stork 1992).
        inverse = torch.linalg.inv(exact[column:, column:])
        removed = torch.where(mask[:, column], 0.0, expected[:, column]) / inverse[0, 0]
        expected[:, column:] -= removed[:, None] * inverse[0]
    expected *= mask
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_the_first_block_loses_the_weights_of_lowest_saliency() -> None:
    weight, hessian = trained_like(2 * BLOCK, rows=8)
    _, mask = run(weight, hessian, SparseGPT(sparsity=0.5))
    exact = damped(hessian)
    after = torch.stack([torch.linalg.inv(exact[column:, column:])[0, 0] for column in range(BLOCK)])
    saliency = weight[:, :BLOCK].double().square() / after
    kept = mask[:, :BLOCK]
    highest_lost = saliency.masked_fill(kept, 0.0).amax(dim=1)
    assert bool((highest_lost < saliency.masked_fill(~kept, torch.inf).amin(dim=1)).all())


@pytest.mark.parametrize("columns", [96, 128, 200, 300])
@pytest.mark.parametrize("sparsity", [0.05, 0.33, 0.5, 0.95])
def test_the_rows_totals_are_exact_and_blocks_differ_by_a_weight_at_most(columns: int, sparsity: float) -> None:
    step = SparseGPT(sparsity=sparsity)
    weight, hessian = trained_like(columns, rows=4, tokens=400)
    found, mask = run(weight, hessian, step)
    assert mask.sum(dim=1).tolist() == [step.kept(columns)] * 4
    assert found[~mask].count_nonzero() == 0
    share = step.kept(columns) / columns
    for block in mask.split(BLOCK, dim=1):
        assert block.sum(dim=1).unique().numel() == 1
        assert abs(int(block[0].sum()) - share * block.shape[1]) < 1


def test_two_of_every_four_stay() -> None:
    weight, hessian = trained_like(BLOCK + 12)
    _, mask = run(weight, hessian, SparseGPT(pattern="2:4"))
    assert bool((mask.reshape(-1, 4).sum(dim=1) == 2).all())


def test_two_of_four_refuses_columns_that_do_not_come_in_fours() -> None:
    with pytest.raises(CandidateError, match="needs columns in fours; a weight has 6"):
        sparsify(torch.ones(2, 6), torch.eye(6), torch.zeros(6, dtype=torch.bool), SparseGPT(pattern="2:4"))


@pytest.mark.parametrize("step", [SparseGPT(sparsity=0.25), SparseGPT(pattern="2:4")], ids=str)
def test_weights_of_dead_inputs_go_first_however_large(step: SparseGPT) -> None:
    weight, hessian = trained_like(64)
    dead = [0, 9, 10, 63]
    hessian[dead], hessian[:, dead] = 0.0, 0.0
    weight[:, dead] = 1e4
    found, mask = run(weight, hessian, step)
    assert not mask[:, dead].any()
    assert found.isfinite().all()
    assert found.abs().max() < 100


def test_fewer_tokens_than_inputs_leave_finite_weights_and_less_error_than_wanda() -> None:
    weight, hessian = trained_like(200, tokens=40)
    found, _ = run(weight, hessian, SparseGPT(sparsity=0.5))
    assert found.isfinite().all()
    baseline = weight * kept_mask(wanda.scores(weight, hessian.diagonal().sqrt()), Wanda(sparsity=0.5))
    assert output_error(found - weight, hessian) < 0.5 * output_error(baseline - weight, hessian)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_sparsegpt_errs_less_than_wanda_and_wanda_less_than_magnitude(step: SparseGPT, seed: int) -> None:
    weight, hessian = trained_like(256, seed=seed)
    found, _ = run(weight, hessian, step)
    by_wanda = weight * kept_mask(wanda.scores(weight, hessian.diagonal().sqrt()), step)
    by_magnitude = weight * kept_mask(weight.abs(), step)
    errors = [output_error(other - weight, hessian) for other in (found, by_wanda, by_magnitude)]
    assert errors[0] < 0.8 * errors[1]
    assert errors[1] < 0.9 * errors[2]


def test_on_the_shipped_model_the_order_is_the_same_and_the_folder_holds_what_was_computed(tmp_path: Path) -> None:
    pairs = read_dataset(ROOT / "data" / "calibration.jsonl.gz").segments
    context = CompressionContext(
        pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=tmp_path / "store", parent_key="captions",
        calibration_tokens=4096,
    )  # fmt: skip
    statistics = statistics_of(CAPTIONS, context)
    targets = read_checkpoint(CAPTIONS).targets()
    before = {name: weight for name, weight, _ in dense_tensors(CAPTIONS, context.device)}
    errors: dict[str, float] = {}
    for step in (Magnitude(), Wanda(), SparseGPT()):
        out = tmp_path / step.name
        out.mkdir()
        report = registry.compress(CAPTIONS, out, step, context)
        assert report.changed == report.targeted == sum(tensor.parameters for tensor in targets.values())
        errors[step.name] = 0.0
        for name, weight, mask in dense_tensors(out, context.device):
            assert weight.dtype == before[name].dtype
            if name not in targets:
                assert torch.equal(weight, before[name])
                continue
            hessian = statistics.hessian(name, context.device)
            errors[step.name] += output_error(weight.float() - before[name].float(), hessian)
            if isinstance(step, SparseGPT) and ".layers.0." in name:
                expected, kept = run(before[name], hessian, step)
                assert mask is not None
                assert torch.equal(mask, kept)
                assert torch.equal(weight, expected.to(weight.dtype))
    assert errors["sparsegpt"] < 0.9 * errors["wanda"] < 0.9 * errors["magnitude"]
