"""Sparse weights: which stay, how the folder is written and how many bytes it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.candidate import Candidate
from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import Magnitude, SparseGPT, Sparsifier, Wanda
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import BASE
from tests.support.paths import CAPTIONS
from workers.calibration.shared_inputs import once_an_input
from workers.calibration.statistics import Statistics
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, weight_files
from workers.compression.pruning.magnitude import compress
from workers.compression.pruning.write_sparse import highest, kept_mask, two_of_four, write_sparse
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import dense_tensors
from workers.translation.prompts import PROMPTS

CPU = CompressionContext((), PROMPTS["alma"], torch.device("cpu"), 0)
STEPS = [*(Magnitude(sparsity=share) for share in (0.05, 0.3, 0.7, 0.95)), Magnitude(pattern="2:4")]


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.2)
    return saved


def dense(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight, _ in dense_tensors(folder, torch.device("cpu"))}


def test_the_highest_scores_of_each_row_stay_and_of_equals_the_earlier_columns() -> None:
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    assert highest(scores, 2).int().tolist() == [[0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]]


def test_two_of_every_four_consecutive_scores_stay() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0, 8.0, 7.0, 6.0]])
    assert two_of_four(scores).int().tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]


def test_columns_that_do_not_come_in_fours_are_refused_for_two_of_four() -> None:
    with pytest.raises(CandidateError, match=r"2:4 needs columns in fours; a weight has 6"):
        two_of_four(torch.ones(2, 6))


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("columns", [64, 100, 640])
def test_every_row_keeps_as_many_weights_as_the_step_says(step: Sparsifier, columns: int) -> None:
    scores = torch.rand(16, columns, generator=torch.Generator().manual_seed(0))
    assert kept_mask(scores, step).sum(dim=1).tolist() == [step.kept(columns)] * 16


def test_the_folder_decodes_to_the_kept_weights_and_zeros_and_leaves_the_rest_alone(
    folder: Path, tmp_path: Path
) -> None:
    step = Magnitude(sparsity=0.6)
    report = compress(folder, tmp_path, step, CPU)
    before, targets = dense(folder), read_checkpoint(folder).targets()
    masks = {name: mask for name, _, mask in dense_tensors(tmp_path, torch.device("cpu")) if mask is not None}
    after = dense(tmp_path)
    assert after.keys() == before.keys()
    assert masks.keys() == targets.keys()
    for name, weight in before.items():
        expected = weight * kept_mask(weight.abs(), step) if name in targets else weight
        assert torch.equal(after[name], expected)
        assert after[name].dtype == weight.dtype
    parameters = sum(tensor.parameters for tensor in targets.values())
    assert report == Report(parameters, parameters)


def test_only_our_loader_finds_the_weights_and_the_small_files_are_the_parent_s(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    compress(folder, tmp_path, Magnitude(), CPU)
    assert [file.name for file in weight_files(tmp_path)] == ["packed.safetensors"]
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert AutoConfig.from_pretrained(tmp_path).model_type == "llama"
    with pytest.raises(OSError, match="no file named"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_bytes_written_are_the_bytes_predicted(tmp_path: Path, step: Magnitude) -> None:
    compress(CAPTIONS, tmp_path, step, CPU)
    base = read_checkpoint(CAPTIONS)
    written = bytes_on_disk(tmp_path)
    assert abs(predicted_bytes(base, (step,)) - written) < 0.0005 * written
    # A bit a weight for the mask, 16 bits for what stays: sparsity below 1 / 16 makes the file larger, not smaller.
    assert (written < base.bytes) == (step.sparsity > 1 / 16)


@pytest.mark.parametrize("method", [Magnitude, Wanda, SparseGPT])
def test_a_weight_of_columns_not_in_fours_is_refused_before_and_within_a_trial(
    save_llama: Any, tmp_path: Path, method: Any
) -> None:
    odd = save_llama(intermediate_size=126, num_hidden_layers=1)
    with pytest.raises(CandidateError, match=r"2:4 needs columns in fours; .* has 126"):
        predicted_bytes(read_checkpoint(odd), (method(pattern="2:4"),))
    if method is Magnitude:
        with pytest.raises(CandidateError, match=r"a weight has 126"):
            compress(odd, tmp_path, method(pattern="2:4"), CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name(save_llama: Any, tmp_path: Path, value: float) -> None:
    def damage(model: Any) -> None:
        model.model.layers[0].mlp.up_proj.weight[3, 5] = value

    with pytest.raises(ValueError, match=r"layers.0.mlp.up_proj.weight holds values that are not finite"):
        compress(save_llama(edit=damage, num_hidden_layers=1), tmp_path, Magnitude(), CPU)


def test_a_result_that_overflows_the_stored_type_is_refused(save_llama: Any, tmp_path: Path) -> None:
    small = save_llama(dtype=torch.float16, num_hidden_layers=1)
    with pytest.raises(ValueError, match="not finite"):
        write_sparse(small, tmp_path, lambda name, weight: (weight.float() + 1e6, weight == weight), CPU)


def test_what_weights_of_one_input_share_is_made_once_and_dropped_with_the_layer() -> None:
    names = [f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "koqv"]
    keys = {name: "out" if "o_proj" in name else "in" for name in names}
    statistics = Statistics(1, keys, {name: Path(name[:14]) for name in names})
    asked: list[str] = []

    def make(name: str) -> str:
        asked.append(name)
        return f"{name[:14]} {keys[name]}"

    get = once_an_input(statistics, make)
    assert [get(name) for name in names] == [f"{name[:14]} {keys[name]}" for name in names]
    assert asked == [names[0], names[1], names[4], names[5]]


def test_every_sparsifier_goes_before_a_quantizer_and_none_after() -> None:
    from search_spaces.methods.quantizers import GPTQ, HQQ, RTN

    for sparsifier in (Magnitude(), Wanda(), SparseGPT(pattern="2:4")):
        for quantizer in (RTN(bits=4), HQQ(bits=4), GPTQ(bits=4)):
            assert Candidate(BASE, (sparsifier, quantizer)).steps == (sparsifier, quantizer)
            with pytest.raises(CandidateError, match="Put the sparsity first"):
                Candidate(BASE, (quantizer, sparsifier))


def test_the_modules_of_the_sparsifiers_exist() -> None:
    import importlib

    for method in (Magnitude, Wanda, SparseGPT):
        assert callable(importlib.import_module(method.module).compress)


def test_half_the_weights_at_sixteen_bits_are_nine_bits_a_weight(tmp_path: Path) -> None:
    compress(CAPTIONS, tmp_path, Magnitude(sparsity=0.5), CPU)
    stored = read_checkpoint(tmp_path).tensors
    bits = 8 * sum(tensor.bytes for name, tensor in stored.items() if name.endswith(("_mask", "_values")))
    parameters = sum(tensor.parameters for tensor in read_checkpoint(CAPTIONS).targets().values())
    assert math.isclose(bits / parameters, (1 - 0.5) * 16 + 1)
