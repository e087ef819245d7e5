"""Wanda: what goes, by hand and on a real model; sparse and then quantized, down to the bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.candidate import Candidate
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Wanda
from search_spaces.methods.quantizers import GPTQ, HQQ, RTN
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Checkpoint
from tests.support.examples import BASE
from tests.support.paths import ROOT
from workers.calibration.calibrate import statistics_of
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.compression.pruning.wanda import compress, scores
from workers.compression.pruning.write_sparse import highest
from workers.evaluation import methods as registry
from workers.plan.compression_context import CompressionContext
from workers.reading.dataset import read_dataset
from workers.stored_forms.checkpoint import dense_tensors
from workers.stored_forms.integer_grid import fit_grid, on_grid, to_integers
from workers.translation.prompts import PROMPTS

CAPTIONS = ROOT / "models" / "captions"
STEP = Wanda(sparsity=0.5)
PATTERN = Wanda(pattern="2:4")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> CompressionContext:
    pairs = read_dataset(ROOT / "data" / "calibration.jsonl.gz").segments
    store = tmp_path_factory.mktemp("store")
    return CompressionContext(
        pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=store, parent_key="captions", calibration_tokens=2048
    )


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    return read_checkpoint(CAPTIONS)


@pytest.fixture(scope="module")
def sparse(context: CompressionContext, tmp_path_factory: pytest.TempPathFactory) -> dict[Wanda, Path]:
    folders = {step: tmp_path_factory.mktemp("sparse") for step in (STEP, PATTERN)}
    for step, folder in folders.items():
        compress(CAPTIONS, folder, step, context)
    return folders


def dense(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    return {name: (weight, mask) for name, weight, mask in dense_tensors(folder, torch.device("cpu"))}


def test_a_small_weight_on_a_large_input_outlives_a_large_one_on_a_small_input() -> None:
    weight = torch.tensor([[4.0, -1.0, 2.0, 3.0], [1.0, 0.5, -8.0, 0.0]])
    norm = torch.tensor([0.1, 3.0, 1.0, 0.0])
    # |w| × norm: 0.4, 3, 2, 0 and 0.1, 1.5, 8, 0; the largest weight of the first row goes.
    assert torch.allclose(scores(weight, norm), torch.tensor([[0.4, 3.0, 2.0, 0.0], [0.1, 1.5, 8.0, 0.0]]))
    assert highest(scores(weight, norm), 2).int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]


def test_each_row_keeps_the_weights_of_highest_score_on_the_calibration_set(
    context: CompressionContext, base: Checkpoint, sparse: dict[Wanda, Path]
) -> None:
    statistics = statistics_of(CAPTIONS, context)
    before, after = dense(CAPTIONS), dense(sparse[STEP])
    for name, tensor in base.targets().items():
        weight, mask = after[name]
        assert mask is not None
        assert torch.equal(weight, before[name][0] * mask)
        assert mask.sum(dim=1).tolist() == [STEP.kept(tensor.shape[1])] * tensor.shape[0]
        score = before[name][0].float().abs() * statistics.hessian(name, context.device).diagonal().sqrt()
        lowest_kept = score.masked_fill(~mask, math.inf).amin(dim=1)
        assert bool((score.masked_fill(mask, 0.0).amax(dim=1) <= lowest_kept).all())


def test_two_of_every_four_stay(base: Checkpoint, sparse: dict[Wanda, Path]) -> None:
    for name, (_, mask) in dense(sparse[PATTERN]).items():
        assert (mask is not None) == (name in base.targets())
        assert mask is None or bool((mask.reshape(-1, 4).sum(dim=1) == 2).all())


def test_without_calibration_pairs_it_says_what_is_missing(context: CompressionContext, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs calibration pairs"):
        compress(CAPTIONS, tmp_path, STEP, replace(context, calibration=(), store=tmp_path / "store"))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 3])
@pytest.mark.parametrize("step", [STEP, PATTERN], ids=str)
def test_sparse_then_quantized_keeps_the_zeros_and_takes_the_bytes_predicted(
    context: CompressionContext,
    base: Checkpoint,
    sparse: dict[Wanda, Path],
    tmp_path: Path,
    step: Wanda,
    bits: int,
    symmetric: bool,
) -> None:
    quantizer = RTN(bits=bits, group_size=64, symmetric=symmetric)
    report = registry.compress(sparse[step], tmp_path, quantizer, context)
    parameters = sum(tensor.parameters for tensor in base.targets().values())
    assert (report.targeted, report.changed) == (parameters, parameters)

    before, after = dense(sparse[step]), dense(tmp_path)
    assert after.keys() == before.keys()
    for name in base.targets():
        (weight, mask), (found, found_mask) = before[name], after[name]
        assert mask is not None
        assert found_mask is not None
        assert torch.equal(found_mask, mask)
        assert found[~mask].count_nonzero() == 0
        grid = fit_grid(weight, bits, 64, symmetric)
        assert torch.equal(found, on_grid(to_integers(weight, grid, bits), grid) * mask)

    written = bytes_on_disk(tmp_path)
    steps: tuple[Step, ...] = Candidate(BASE, (step, quantizer)).steps
    assert abs(predicted_bytes(base, steps) - written) < 0.005 * written


@pytest.mark.parametrize("symmetric", [True, False])
def test_half_the_weights_at_four_bits_take_what_arithmetic_says(
    context: CompressionContext, base: Checkpoint, sparse: dict[Wanda, Path], tmp_path: Path, symmetric: bool
) -> None:
    quantizer = RTN(bits=4, group_size=64, symmetric=symmetric)
    registry.compress(sparse[STEP], tmp_path, quantizer, context)
    stored = read_checkpoint(tmp_path).tensors
    layers = [tensor for name, tensor in stored.items() if ".layers." in name and len(tensor.shape) == 2]
    parameters = sum(tensor.parameters for tensor in base.targets().values())
    bits = 8 * sum(tensor.bytes for tensor in layers) / parameters
    # (1 - s) · b for what stays, 1 for the mask, and of every 64 weights a bfloat16 scale and a 4-bit zero point.
    expected = (1 - 0.5) * 4 + 1 + 16 / 64 + (0 if symmetric else 4 / 64)
    assert bits == expected == (3.25 if symmetric else 3.3125)


def test_the_half_quadratic_quantizer_keeps_the_zeros_too(
    context: CompressionContext, base: Checkpoint, sparse: dict[Wanda, Path], tmp_path: Path
) -> None:
    refuse_filled(HQQ(bits=4, group_size=64), context, base, sparse[STEP], tmp_path)


def test_gptq_keeps_the_zeros_too_by_the_sparse_model_s_own_statistics(
    context: CompressionContext, base: Checkpoint, sparse: dict[Wanda, Path], tmp_path: Path
) -> None:
    own = replace(context, parent_key="captions, sparse")
    refuse_filled(GPTQ(bits=4, group_size=64), own, base, sparse[STEP], tmp_path)


def refuse_filled(step: Step, context: CompressionContext, base: Checkpoint, parent: Path, out: Path) -> None:
    """Compress and check: zeros stay zeros, what stays is near what it was, bytes are those predicted."""
    registry.compress(parent, out, step, context)
    before, after = dense(parent), dense(out)
    for name in base.targets():
        (weight, mask), (found, found_mask) = before[name], after[name]
        assert mask is not None
        assert found_mask is not None
        assert torch.equal(found_mask, mask)
        assert found[~mask].count_nonzero() == 0
        assert 0 < (found - weight.float()).norm() < 0.2 * weight.float().norm()
    written = bytes_on_disk(out)
    assert abs(predicted_bytes(base, (STEP, step)) - written) < 0.005 * written
