"""FP8: the rounding by hand, a folder that transformers runs as the dequantized weights, and its inputs' grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.methods.quantizers import FP8
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import CPU, PARENTS, SHAPE, e4m3_tokens, logits, reference
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.compression.quantization.fp8 import compress, quantize
from workers.loading.load import load_model
from workers.plan.compression_context import Report

ZEROED = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def parent(save_llama: Any) -> Path:
    def zero_a_row(model: Any) -> None:
        model.get_submodule(ZEROED).weight[3] = 0.0

    saved: Path = save_llama(edit=zero_a_row, initializer_range=0.2)
    return saved


@pytest.fixture(scope="module")
def dequantized(parent: Path) -> dict[str, torch.Tensor]:
    stored = load_file(parent / "model.safetensors")
    return {name: quantize(stored[name]).dequantized() for name in read_checkpoint(parent).targets()}


def written(parent: Path, out: Path, activations: bool) -> Path:
    out.mkdir(exist_ok=True)
    compress(parent, out, FP8(activations=activations), CPU)
    return out


def test_rows_are_rounded_to_e4m3_as_worked_out_by_hand() -> None:
    weight = torch.tensor([[448.0, -17.0, 19.0, 1.0625, 0.0009765625], [-0.875, 0.0, 0.4375, 0.05, 0.06]])
    # Row 1: scale 1. 16 to 32 goes in steps of 2, so 17 and 19 lie half-way and go to the even mantissas of 16 and 20;
    # 1 to 2 goes in steps of 1/8, so 1.0625 is half-way to 1.125 and goes to 1; 2^-10 is half the least value, and
    # goes to 0.
    # Row 2: scale 0.875 / 448 = 2^-9. Times 512: -448, 0, 224, 25.6 (steps of 2: 26) and 30.72 (30 or 32: 30).
    found = quantize(weight)
    assert found.values.dtype == torch.float8_e4m3fn
    assert found.scale.tolist() == [[1.0], [2.0**-9]]
    assert found.values.float().tolist() == [[448.0, -16.0, 20.0, 1.0, 0.0], [-448.0, 0.0, 224.0, 26.0, 30.0]]
    assert found.dequantized()[1].tolist() == [-0.875, 0.0, 0.4375, 26 / 512, 30 / 512]


def test_a_scale_rounded_down_clips_the_largest_weight_instead_of_making_it_nan() -> None:
    # bfloat16 goes in steps of 1/128 from 1 to 2: 449 / 448 = 1.0022 is stored as 1, 467 / 448 = 1.0424 as 1.0390625,
    # and the rows' largest weights over them are 449 and 449.5. 2^-133 is the least bfloat16: 467 / 448 of it is stored
    # as it, and makes 467, beyond the 464 from which on E4M3 has only NaN.
    found = quantize(torch.tensor([[449.0, 224.0], [467.0, -1.0], [467.0 * 2.0**-133, 0.0]]))
    assert found.scale.tolist() == [[1.0], [1.0390625], [2.0**-133]]
    assert found.values.float().tolist() == [[448.0, 224.0], [448.0, -0.9375], [448.0, 0.0]]
    many = quantize(torch.randn(4096, 8, generator=torch.Generator().manual_seed(0)) * 1e-3)
    assert many.values.float().isfinite().all()
    assert many.values.float().abs().amax(dim=1).min() >= 416


def test_a_row_of_zeros_gets_the_scale_one_and_stays_zeros() -> None:
    found = quantize(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    assert found.scale[0].item() == 1.0
    assert found.dequantized()[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(save_llama: Any, tmp_path: Path, damage: float) -> None:
    def spoil(model: Any) -> None:
        model.model.layers[0].mlp.up_proj.weight[0, 0] = damage

    with pytest.raises(ValueError, match="finite"):
        compress(save_llama(edit=spoil, num_hidden_layers=1), tmp_path, FP8(), CPU)


def test_the_folder_holds_bytes_and_bfloat16_scales_and_all_else_as_it_was(parent: Path, tmp_path: Path) -> None:
    report = compress(parent, tmp_path, FP8(), CPU)
    stored = load_file(tmp_path / "model.safetensors")
    targets = read_checkpoint(parent).targets()
    for name, weight in load_file(parent / "model.safetensors").items():
        if name in targets:
            expected = quantize(weight)
            assert torch.equal(stored.pop(name).view(torch.uint8), expected.values.view(torch.uint8))
            assert torch.equal(stored.pop(f"{name}_scale"), expected.scale)
        else:
            assert torch.equal(stored.pop(name), weight)
    assert stored == {}
    parameters = sum(tensor.parameters for tensor in targets.values())
    assert report == Report(parameters, parameters)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in parent.iterdir()}
    assert read_config(tmp_path)["quantization_config"]["format"] == "float-quantized"


def test_weights_alone_run_as_the_dequantized_weights(
    parent: Path, dequantized: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = load_model(written(parent, tmp_path, activations=False), "cpu")
    found = logits(model)
    assert torch.equal(found, logits(reference(parent, dequantized)))
    assert (found - logits(load_model(parent, "cpu"))).abs().max() > 0.01
    for name, weight in dequantized.items():
        assert torch.equal(model.get_parameter(name), weight)


def test_inputs_are_put_on_their_tokens_grids_at_the_first_pass_and_after_it(
    parent: Path, dequantized: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = load_model(written(parent, tmp_path, activations=True), "cpu")
    expected = logits(reference(parent, dequantized, e4m3_tokens))
    for _ in range(2):
        assert torch.equal(logits(model), expected)
    assert (expected - logits(reference(parent, dequantized))).abs().max() > 0.01


def test_bfloat16_runs_the_same_arithmetic_to_its_precision(
    parent: Path, dequantized: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    out = written(parent, tmp_path, activations=True)
    found = logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16))
    expected = logits(reference(parent, dequantized, e4m3_tokens))
    assert found.dtype == torch.bfloat16
    exact = logits(load_model(parent, "cpu"))
    # Twice the harm that FP8 itself does would be another computation.
    assert (found.float() - expected).square().mean() < (expected - exact).square().mean()


@pytest.mark.parametrize("activations", [False, True])
@pytest.mark.parametrize("name", sorted(PARENTS))
def test_the_predicted_bytes_are_those_written(save_llama: Any, tmp_path: Path, name: str, activations: bool) -> None:
    parent = save_llama(**(SHAPE | PARENTS[name]))
    step = FP8(activations=activations)
    predicted = predicted_bytes(read_checkpoint(parent), (step,))
    assert predicted == pytest.approx(bytes_on_disk(written(parent, tmp_path, activations)), rel=0.002)


def test_a_tied_head_stays_tied(save_llama: Any, tmp_path: Path) -> None:
    parent = save_llama(tie_word_embeddings=True)
    model = load_model(written(parent, tmp_path, activations=True), "cpu")
    assert not any("lm_head" in name for name in read_checkpoint(tmp_path).tensors)
    assert logits(model).isfinite().all()
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
