"""Round-to-nearest: the arithmetic by hand, and a packed folder that transformers runs as the dequantized weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file

from search_spaces.methods.quantizers import RTN
from search_spaces.sizes.quantized import after_integers
from search_spaces.sizes.tensor_table import is_target
from tests.support.dense_reference import CPU, logits, reference
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.quantization.rtn import compress, quantize
from workers.loading.load import load_model
from workers.plan.compression_context import Report

ZEROED = "model.layers.1.self_attn.q_proj"
STEPS = [
    RTN(bits=bits, group_size=size, symmetric=symmetric)
    for bits in (8, 4, 3, 2)
    for size, symmetric in ((32, True), (64, False), (-1, bits > 3))
]


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    def zero_a_group(model: Any) -> None:
        model.get_submodule(ZEROED).weight[3, 32:64] = 0.0

    saved: Path = save_llama(edit=zero_a_group, initializer_range=0.2)
    return saved


@pytest.fixture(scope="module")
def tied(save_llama: Any) -> Path:
    saved: Path = save_llama(tie_word_embeddings=True, initializer_range=0.2)
    return saved


def packed(folder: Path, step: RTN, out: Path) -> Path:
    compress(folder, out, step, CPU)
    return out


def test_four_bits_with_one_scale_a_row_as_worked_out_by_hand() -> None:
    weight = torch.tensor(
        [
            [3.75, -3.75, 0.5, -0.5, 0.26, 0.24, 1.0, 0.0],
            [15.0, 2.0, -4.0, 0.9, 1.1, -1.1, 3.0, 5.0],
        ]
    )
    # Half of the grid's width is (2^4 - 1) / 2 = 7.5: the scales are 3.75 / 7.5 = 0.5 and 15 / 7.5 = 2.
    # Row 1 over 0.5: 7.5, -7.5, 1, -1, 0.52, 0.48, 2, 0. 7.5 rounds to the even 8, which is cut to 7.
    # Row 2 over 2: 7.5, 1, -2, 0.45, 0.55, -0.55, 1.5, 2.5. 1.5 and 2.5 both round to the even 2.
    quantized = quantize(weight, bits=4, group_size=-1)
    assert quantized.grid.scale.tolist() == [[0.5], [2.0]]
    assert quantized.integers.tolist() == [[7, -8, 1, -1, 1, 0, 2, 0], [7, 1, -2, 0, 1, -1, 2, 2]]


def test_three_bits_with_a_scale_a_group_as_worked_out_by_hand() -> None:
    weight = torch.tensor(
        [
            [3.5, 1.0, -1.0, 0.0, 7.0, -7.0, 2.0, 1.0],
            [0.0, 0.0, 0.0, 0.0, -1.75, 0.7, -0.2, 1.2],
        ]
    )
    # (2^3 - 1) / 2 = 3.5: the scales are 3.5 / 3.5 = 1, 7 / 3.5 = 2, 1 for a group of zeros, 1.75 / 3.5 = 0.5.
    # Over them: 3.5, 1, -1, 0 | 3.5, -3.5, 1, 0.5 and 0, 0, 0, 0 | -3.5, 1.4, -0.4, 2.4.
    quantized = quantize(weight, bits=3, group_size=4)
    assert quantized.grid.scale.tolist() == [[1.0, 2.0], [1.0, 0.5]]
    assert quantized.integers.tolist() == [[3, 1, -1, 0, 3, -4, 1, 0], [0, 0, 0, 0, -4, 1, 0, 2]]


def test_two_bits_as_worked_out_by_hand() -> None:
    # (2^2 - 1) / 2 = 1.5: the scales are 3 / 1.5 = 2 and 0.75 / 1.5 = 0.5. Over them: 1.5, -1.5, 0.45, -0.5 and
    # -1.5, 1.2, 0.5, -0.6. 1.5 rounds to the even 2, which is cut to 1; -1.5 to -2; 0.5 and -0.5 to 0.
    quantized = quantize(torch.tensor([[3.0, -3.0, 0.9, -1.0, -0.75, 0.6, 0.25, -0.3]]), bits=2, group_size=4)
    assert quantized.grid.scale.tolist() == [[2.0, 0.5]]
    assert quantized.integers.tolist() == [[1, -2, 0, 0, -2, 1, 0, -1]]
    assert quantized.dequantized().tolist() == [[2.0, -4.0, 0.0, 0.0, -1.0, 0.5, 0.0, -0.5]]


def test_four_asymmetric_bits_as_worked_out_by_hand() -> None:
    # Group 1 spans -1 to 6.5: 7.5 / 15 = 0.5 a step, and -1 at -8 puts 0 at -8 + 2 = -6. In steps from there: -2, 13,
    # 2.5, 0.6. Group 2 spans 0 to 30: 2 a step, 0 at -8. In steps: 15, 0.5, 1.5, 0.
    # Halves go to the even integer after the zero point is added: -3.5 to -4, -7.5 to -8, -6.5 to -6.
    weight = torch.tensor([[-1.0, 6.5, 1.25, 0.3, 30.0, 1.0, 3.0, 0.0]])
    quantized = quantize(weight, bits=4, group_size=4, symmetric=False)
    assert quantized.grid.scale.tolist() == [[0.5, 2.0]]
    assert quantized.grid.zero_point is not None
    assert quantized.grid.zero_point.tolist() == [[-6, -8]]
    assert quantized.integers.tolist() == [[-8, 7, -4, -5, 7, -8, -6, -8]]
    assert quantized.dequantized().tolist() == [[-1.0, 6.5, 1.0, 0.5, 30.0, 0.0, 4.0, 0.0]]


def test_scales_are_rounded_to_bfloat16_before_the_integers_are_taken() -> None:
    # 1 / 7.5 = 0.13333; bfloat16 has 1/1024 steps there, and 136.53 of them make 137/1024 = 0.1337890625.
    # 0.468 / 0.13379 = 3.498 rounds to 3, where the unrounded scale would give 3.51 and 4.
    quantized = quantize(torch.tensor([[1.0, 0.468]]), bits=4, group_size=-1)
    assert quantized.grid.scale.dtype == torch.bfloat16
    assert quantized.grid.scale.item() == 0.1337890625
    assert quantized.integers.tolist() == [[7, 3]]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_packed_folder_holds_the_integers_and_scales(folder: Path, tmp_path: Path, step: RTN) -> None:
    stored = load_file(packed(folder, step, tmp_path) / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        if ".layers." not in name or weight.ndim != 2:
            assert torch.equal(stored.pop(name), weight)
            continue
        stem = name.removesuffix(".weight")
        quantized = quantize(weight, step.bits, step.group_size, step.symmetric)
        shape = stored.pop(f"{stem}.weight_shape")
        assert shape.tolist() == list(weight.shape)
        unpacked = unpack_from_int32(stored.pop(f"{stem}.weight_packed"), step.bits, torch.Size(shape.tolist()))
        assert torch.equal(unpacked, quantized.integers)
        assert torch.equal(stored.pop(f"{stem}.weight_scale"), quantized.grid.scale)
        if not step.symmetric:
            assert quantized.grid.zero_point is not None
            zero_points = quantized.grid.zero_point
            packed_zero_points = stored.pop(f"{stem}.weight_zero_point")
            found = unpack_from_int32(packed_zero_points, step.bits, zero_points.shape, packed_dim=0)
            assert torch.equal(found, zero_points)
    assert stored == {}


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_transformers_runs_the_packed_folder_as_the_dequantized_weights(
    folder: Path, tmp_path: Path, step: RTN
) -> None:
    stored = load_file(folder / "model.safetensors")
    expected = logits(
        reference(
            folder,
            {
                name: quantize(stored[name], step.bits, step.group_size, step.symmetric).dequantized()
                for name in read_checkpoint(folder).targets()
            },
        )
    )

    found = logits(load_model(packed(folder, step, tmp_path), "cpu"))

    assert found.isfinite().all()
    assert (found - expected).abs().max() == 0.0
    assert (found - logits(reference(folder, {}))).abs().max() > 0.01


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_a_weight_that_is_not_finite_is_refused(save_llama: Any, tmp_path: Path, value: float) -> None:
    def spoil(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight[1, 2] = value

    with pytest.raises(ValueError, match="finite"):
        compress(save_llama(edit=spoil, num_hidden_layers=1), tmp_path, RTN(bits=4), CPU)


def test_the_written_tensors_and_headers_are_those_predicted(tied: Path, folder: Path, tmp_path: Path) -> None:
    for parent in (tied, folder):
        for number, step in enumerate(STEPS):
            out = tmp_path / f"{parent.name}-{number}"
            out.mkdir()
            compress(parent, out, step, CPU)
            predicted, written = after_integers(read_checkpoint(parent), step), read_checkpoint(out)
            assert dict(predicted.tensors) == dict(written.tensors)
            # safetensors orders the tensors anew, so that offsets have other numbers of digits.
            assert predicted.header_bytes == pytest.approx(written.header_bytes, rel=0.02)


def test_a_group_of_zeros_stays_zeros_in_the_loaded_model(folder: Path, tmp_path: Path) -> None:
    model = load_model(packed(folder, RTN(bits=4, group_size=32), tmp_path), "cpu")
    assert logits(model).isfinite().all()
    weight = model.get_submodule(ZEROED).weight
    assert weight[3, 32:64].count_nonzero() == 0
    assert weight[3, :32].count_nonzero() > 0


def test_tied_embeddings_stay_tied_on_disk_and_in_the_loaded_model(tied: Path, tmp_path: Path) -> None:
    out = packed(tied, RTN(bits=4), tmp_path)
    assert not any("lm_head" in name for name in read_checkpoint(out).tensors)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
    model = load_model(out, "cpu")
    logits(model)
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert torch.equal(model.lm_head.weight, load_model(tied, "cpu").lm_head.weight)


def test_the_report_counts_every_targeted_weight_as_changed(folder: Path, tmp_path: Path) -> None:
    tensors = read_checkpoint(folder).tensors
    targeted = sum(tensor.parameters for name, tensor in tensors.items() if is_target(name, tensor))
    # Three layers of q and o (64 × 64), k and v (32 × 64), and three MLP weights (64 × 128).
    assert targeted == 3 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    assert compress(folder, tmp_path, RTN(bits=8), CPU) == Report(targeted, targeted)


def test_the_packed_folder_has_all_it_needs_and_the_parent_is_left_alone(folder: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    out = packed(folder, RTN(bits=4), tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert {file.name for file in out.iterdir()} == set(before)
    assert (out / "tokenizer.json").read_bytes() == before["tokenizer.json"]
