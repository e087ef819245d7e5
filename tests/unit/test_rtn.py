"""Round-to-nearest: the arithmetic by hand, and a packed folder that transformers runs as the dequantized weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file

from search_spaces.checkpoint import is_target
from search_spaces.methods import RoundToNearest
from workers.compression.context import CompressionContext, Report
from workers.compression.rtn import compress, quantize
from workers.model_files import read_checkpoint
from workers.models import load_model
from workers.prompts import PROMPTS

CPU = CompressionContext((), PROMPTS["alma"], torch.device("cpu"), 0)
IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61]])
ZEROED = "model.layers.1.self_attn.q_proj"
STEPS = [RoundToNearest(bits=bits, group_size=size) for bits in (8, 4, 3) for size in (32, 64, -1)]


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


def packed(folder: Path, step: RoundToNearest, out: Path) -> Path:
    compress(folder, out, step, CPU)
    return out


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found = model(IDS).logits
    assert isinstance(found, torch.Tensor)
    return found


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
    integers, scale = quantize(weight, bits=4, group_size=-1)
    assert scale.tolist() == [[0.5], [2.0]]
    assert integers.tolist() == [[7, -8, 1, -1, 1, 0, 2, 0], [7, 1, -2, 0, 1, -1, 2, 2]]


def test_three_bits_with_a_scale_a_group_as_worked_out_by_hand() -> None:
    weight = torch.tensor(
        [
            [3.5, 1.0, -1.0, 0.0, 7.0, -7.0, 2.0, 1.0],
            [0.0, 0.0, 0.0, 0.0, -1.75, 0.7, -0.2, 1.2],
        ]
    )
    # (2^3 - 1) / 2 = 3.5: the scales are 3.5 / 3.5 = 1, 7 / 3.5 = 2, 1 for a group of zeros, 1.75 / 3.5 = 0.5.
    # Over them: 3.5, 1, -1, 0 | 3.5, -3.5, 1, 0.5 and 0, 0, 0, 0 | -3.5, 1.4, -0.4, 2.4.
    integers, scale = quantize(weight, bits=3, group_size=4)
    assert scale.tolist() == [[1.0, 2.0], [1.0, 0.5]]
    assert integers.tolist() == [[3, 1, -1, 0, 3, -4, 1, 0], [0, 0, 0, 0, -4, 1, 0, 2]]


def test_scales_are_rounded_to_bfloat16_before_the_integers_are_taken() -> None:
    # 1 / 7.5 = 0.13333; bfloat16 has 1/1024 steps there, and 136.53 of them make 137/1024 = 0.1337890625.
    # 0.468 / 0.13379 = 3.498 rounds to 3, where the unrounded scale would give 3.51 and 4.
    integers, scale = quantize(torch.tensor([[1.0, 0.468]]), bits=4, group_size=-1)
    assert scale.dtype == torch.bfloat16
    assert scale.item() == 0.1337890625
    assert integers.tolist() == [[7, 3]]


@pytest.mark.parametrize(("bits", "low", "high"), [(3, -4, 3), (4, -8, 7), (8, -128, 127)])
def test_integers_stay_within_their_bits_and_use_them_all(bits: int, low: int, high: int) -> None:
    torch.manual_seed(0)
    integers, _ = quantize(torch.randn(512, 128), bits, 32)
    assert (integers.min(), integers.max()) == (low, high)
    assert torch.equal(integers, integers.round())


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_packed_folder_holds_the_integers_and_scales(folder: Path, tmp_path: Path, step: RoundToNearest) -> None:
    stored = load_file(packed(folder, step, tmp_path) / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        if ".layers." not in name or weight.ndim != 2:
            assert torch.equal(stored.pop(name), weight)
            continue
        stem = name.removesuffix(".weight")
        integers, scale = quantize(weight, step.bits, step.group_size)
        shape = stored.pop(f"{stem}.weight_shape")
        assert shape.tolist() == list(weight.shape)
        unpacked = unpack_from_int32(stored.pop(f"{stem}.weight_packed"), step.bits, torch.Size(shape.tolist()))
        assert torch.equal(unpacked.to(integers.dtype), integers)
        assert torch.equal(stored.pop(f"{stem}.weight_scale"), scale)
    assert stored == {}


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_transformers_runs_the_packed_folder_as_the_dequantized_weights(
    folder: Path, tmp_path: Path, step: RoundToNearest
) -> None:
    dense = load_model(folder, "cpu")
    before = logits(dense)
    targets = read_checkpoint(folder).targets()
    for name, parameter in dense.named_parameters():
        if name in targets:
            integers, scale = quantize(parameter.data, step.bits, step.group_size)
            size = parameter.shape[1] // scale.shape[1]
            parameter.data = integers * scale.float().repeat_interleave(size, dim=1)
    expected = logits(dense)

    found = logits(load_model(packed(folder, step, tmp_path), "cpu"))

    assert found.isfinite().all()
    assert (found - expected).abs().max() == 0.0
    assert (found - before).abs().max() > 0.01


def test_a_group_of_zeros_stays_zeros_in_the_loaded_model(folder: Path, tmp_path: Path) -> None:
    model = load_model(packed(folder, RoundToNearest(bits=4, group_size=32), tmp_path), "cpu")
    assert logits(model).isfinite().all()
    weight = model.get_submodule(ZEROED).weight
    assert weight[3, 32:64].count_nonzero() == 0
    assert weight[3, :32].count_nonzero() > 0


def test_tied_embeddings_stay_tied_on_disk_and_in_the_loaded_model(tied: Path, tmp_path: Path) -> None:
    out = packed(tied, RoundToNearest(bits=4), tmp_path)
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
    assert compress(folder, tmp_path, RoundToNearest(bits=8), CPU) == Report(targeted, targeted)


def test_the_packed_folder_has_all_it_needs_and_the_parent_is_left_alone(folder: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    out = packed(folder, RoundToNearest(bits=4), tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert {file.name for file in out.iterdir()} == set(before)
    assert (out / "tokenizer.json").read_bytes() == before["tokenizer.json"]
