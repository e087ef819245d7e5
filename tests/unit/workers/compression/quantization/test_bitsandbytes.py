"""bitsandbytes: the stored codes decoded apart from the library, the folder it runs, and the bytes it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError
from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import CPU, PARENTS, SHAPE, logits, reference
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.compression.quantization.bitsandbytes import compress
from workers.loading.load import load_model
from workers.plan.compression_context import Report

FOUR_BITS = [BitsAndBytes(format=code, double_quantization=twice) for code in ("nf4", "fp4") for twice in (False, True)]
STEPS = [BitsAndBytes(format="int8"), *FOUR_BITS]
# The sixteen values of each code by its four bits. NF4: https://arxiv.org/abs/2305.14314 appendix E. FP4: a sign, two
# bits of exponent and one of mantissa over the largest value, 12; without an exponent, 0 and 1/16.
NF4 = [-1.0, -0.69619, -0.52507, -0.39492, -0.28444, -0.18477, -0.09105, 0.0,
       0.07958, 0.16093, 0.24611, 0.33792, 0.44071, 0.56262, 0.72296, 1.0]  # fmt: skip
FP4_POSITIVE = [0.0, 0.0625 / 12, 8 / 12, 12 / 12, 4 / 12, 6 / 12, 2 / 12, 3 / 12]
CODES = {"nf4": torch.tensor(NF4), "fp4": torch.tensor([*FP4_POSITIVE, *(-value for value in FP4_POSITIVE)])}


@pytest.fixture(scope="module")
def parent(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.2, attention_bias=True)
    return saved


@pytest.fixture(scope="module")
def folders(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[BitsAndBytes, tuple[Path, Report]]:
    written = {}
    for step in STEPS:
        out = tmp_path_factory.mktemp("out")
        written[step] = (out, compress(parent, out, step, CPU))
    return written


def block_scales(stored: dict[str, torch.Tensor], name: str, step: BitsAndBytes) -> torch.Tensor:
    """The scales of a weight's blocks of 64, float32 (blocks,)."""
    absmax = stored[f"{name}.absmax"]
    if not step.double_quantization:
        return absmax
    state = json.loads(bytes(stored[f"{name}.quant_state.bitsandbytes__{step.format}"].tolist()))
    outer = stored[f"{name}.nested_absmax"].repeat_interleave(state["nested_blocksize"])[: len(absmax)]
    levels: torch.Tensor = stored[f"{name}.nested_quant_map"][absmax.int()]
    return levels * outer + float(state["nested_offset"])


def decoded(stored: dict[str, torch.Tensor], name: str, step: BitsAndBytes, shape: torch.Size) -> torch.Tensor:
    """The weight that a 4-bit checkpoint stands for, float32 of this shape; the first of two codes is the high one."""
    pairs = stored[name].flatten().int()
    codes = torch.stack([pairs >> 4, pairs & 15], dim=1).flatten()
    values = CODES[step.format][codes].reshape(-1, 64)
    return (values * block_scales(stored, name, step)[:, None]).reshape(shape)


@pytest.mark.parametrize("step", FOUR_BITS, ids=str)
def test_every_weight_is_stored_as_the_nearest_value_of_its_code(
    parent: Path, folders: dict[BitsAndBytes, tuple[Path, Report]], step: BitsAndBytes
) -> None:
    stored = load_file(folders[step][0] / "model.safetensors")
    weights = load_file(parent / "model.safetensors")
    for name in read_checkpoint(parent).targets():
        assert torch.allclose(stored[f"{name}.quant_map"], CODES[step.format], atol=1e-5)
        weight = weights[name].float()
        largest = weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True)
        # The codes are taken against the blocks' true largest weights, also where these are then rounded themselves.
        distance = (weight.reshape(-1, 64, 1) / largest[..., None] - CODES[step.format]).abs()
        codes = torch.stack([stored[name].int() >> 4, stored[name].int() & 15], dim=1).reshape(-1, 64, 1)
        assert torch.allclose(distance.gather(2, codes.long())[..., 0], distance.amin(dim=2), atol=1e-5)
        scales = block_scales(stored, name, step)
        # 8 bits for a block scale: steps of the dynamic code are below 1/50 of the spread of the scales.
        allowed = 0.02 * (largest - largest.mean()).abs().max().item() if step.double_quantization else 0.0
        assert (scales - largest[:, 0]).abs().max() <= allowed


@pytest.mark.parametrize("step", FOUR_BITS, ids=str)
def test_what_is_stored_is_what_was_quantized_and_no_repacking_of_it(
    parent: Path, folders: dict[BitsAndBytes, tuple[Path, Report]], step: BitsAndBytes
) -> None:
    from bitsandbytes.functional import quantize_4bit

    stored = load_file(folders[step][0] / "model.safetensors")
    weights = load_file(parent / "model.safetensors")
    for name in read_checkpoint(parent).targets():
        codes, state = quantize_4bit(
            weights[name], blocksize=64, compress_statistics=step.double_quantization, quant_type=step.format
        )
        assert torch.equal(stored[name], codes)
        for part, tensor in state.as_dict(packed=True).items():
            assert torch.equal(stored[f"{name}.{part}"], tensor)


@pytest.mark.parametrize("step", FOUR_BITS, ids=str)
def test_four_bits_run_as_the_decoded_weights(
    parent: Path, folders: dict[BitsAndBytes, tuple[Path, Report]], step: BitsAndBytes
) -> None:
    folder, _ = folders[step]
    stored = load_file(folder / "model.safetensors")
    targets = read_checkpoint(parent).targets()
    weights = {name: decoded(stored, name, step, torch.Size(tensor.shape)) for name, tensor in targets.items()}
    expected = logits(reference(parent, weights))
    found = logits(load_model(folder, "cpu"))
    before = logits(load_model(parent, "cpu"))
    # The layers compute in bfloat16.
    assert (found - expected).square().mean() < 0.02 * (expected - before).square().mean()


def test_eight_bits_are_rounded_over_each_rows_largest_weight(
    parent: Path, folders: dict[BitsAndBytes, tuple[Path, Report]]
) -> None:
    stored = load_file(folders[STEPS[0]][0] / "model.safetensors")
    weights = load_file(parent / "model.safetensors")
    for name in read_checkpoint(parent).targets():
        scale = stored[name.replace(".weight", ".SCB")]
        assert torch.equal(scale, weights[name].float().abs().amax(dim=1))
        exact = weights[name].float() * 127 / scale[:, None]
        assert (stored[name] - exact).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_targeted_weight_counts_as_changed_and_the_config_says_how(
    parent: Path, folders: dict[BitsAndBytes, tuple[Path, Report]], step: BitsAndBytes
) -> None:
    folder, report = folders[step]
    # Three layers of q and o (64 × 64), k and v (32 × 64), and three MLP weights (64 × 128).
    targeted = 3 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    assert report == Report(targeted, targeted)
    config = read_config(folder)["quantization_config"]
    assert config["load_in_8bit"] is (step.format == "int8")
    if step.format != "int8":
        assert config["bnb_4bit_quant_type"] == step.format
        assert config["bnb_4bit_use_double_quant"] is step.double_quantization


@pytest.mark.parametrize("step", [STEPS[0], FOUR_BITS[1]], ids=str)
def test_a_weight_that_is_not_finite_is_refused(save_llama: Any, tmp_path: Path, step: BitsAndBytes) -> None:
    def spoil(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight[1, 2] = float("inf")

    with pytest.raises(ValueError, match=r"down_proj\.weight holds values that are not finite"):
        compress(save_llama(edit=spoil, num_hidden_layers=1), tmp_path, step, CPU)
    assert list(tmp_path.iterdir()) == []


def test_a_block_of_zeros_stays_zeros(save_llama: Any, tmp_path: Path) -> None:
    def zero_a_row(model: Any) -> None:
        model.model.layers[0].mlp.up_proj.weight[5] = 0.0

    parent = save_llama(edit=zero_a_row, num_hidden_layers=1)
    compress(parent, tmp_path, FOUR_BITS[0], CPU)
    name = "model.layers.0.mlp.up_proj.weight"
    weight = decoded(load_file(tmp_path / "model.safetensors"), name, FOUR_BITS[0], torch.Size((128, 64)))
    assert weight[5].count_nonzero() == 0
    assert logits(load_model(tmp_path, "cpu")).isfinite().all()


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("name", sorted(PARENTS))
def test_the_predicted_bytes_are_those_written(save_llama: Any, tmp_path: Path, name: str, step: BitsAndBytes) -> None:
    parent = save_llama(**(SHAPE | PARENTS[name]))
    compress(parent, tmp_path, step, CPU)
    predicted, stored = predicted_bytes(read_checkpoint(parent), (step,)), bytes_on_disk(tmp_path)
    assert predicted == pytest.approx(stored, rel=0.002)


def test_eight_bits_have_no_block_scales_to_quantize() -> None:
    with pytest.raises(CandidateError, match="double_quantization is for nf4 and fp4"):
        BitsAndBytes(format="int8", double_quantization=True)
