"""Activation-aware quantization: folding changes nothing, scales and clipping never cost, odd models are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import CandidateError
from search_spaces.methods.quantizers import AWQ, RTN
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import segment
from workers.calibration.calibrate import statistics_of
from workers.calibration.output_error import diagonal_blocks, group_errors, row_errors
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.compression.quantization import rtn
from workers.compression.quantization.awq import compress, rounding_error, scales_of, search
from workers.compression.quantization.clipping import quantize_clipped
from workers.compression.quantization.rtn import quantize as round_to_nearest
from workers.compression.scale_folding import Folding, ScaleMapping, folded_norm, mappings
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.checkpoint import copy_small_files, dense_tensors, write_tensors
from workers.translation.prompts import PROMPTS

CPU = torch.device("cpu")
PAIRS = [segment(f"{n} dogs run to {n * 7} cats.", f"{n} Hunde laufen zu {n * 7} Katzen!") for n in range(60)]
IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61]])
STEPS = [
    AWQ(bits=bits, group_size=size, symmetric=symmetric)
    for bits, size, symmetric in ((4, 32, True), (3, 64, False), (2, -1, True))
]


def uneven(model: Any) -> None:
    """Norms and biases that are not all ones and zeros, with a few channels that stand out, as in trained models."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            offset = 1.0 if model.config.model_type.startswith("gemma") else 0.0
            factors = torch.rand_like(parameter) + 0.5
            factors[::16] *= 8
            parameter.copy_(factors - offset)
        elif name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) * 0.1)


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory, character_tokenizer: Any) -> Callable[..., Path]:
    """A function that saves a tiny random model of a transformers config class: (config, dtype) -> folder."""
    from transformers import AutoModelForCausalLM

    def saved(config: Any, dtype: Any = torch.float32) -> Path:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            uneven(model)
        folder = tmp_path_factory.mktemp("model")
        model.to(dtype).save_pretrained(folder)
        character_tokenizer.save_pretrained(folder)
        return folder

    return saved


def shape(tokens: int = 98) -> dict[str, Any]:
    return {
        "vocab_size": tokens, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.1,
        "pad_token_id": None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def llama(save: Callable[..., Path]) -> Path:
    from transformers import LlamaConfig

    return save(LlamaConfig(**shape(), attention_bias=True, mlp_bias=True), torch.bfloat16)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> CompressionContext:
    return CompressionContext(PAIRS, PROMPTS["alma"], CPU, 0, store=tmp_path_factory.mktemp("store"))


def of(context: CompressionContext, folder: Path) -> CompressionContext:
    return replace(context, parent_key=str(folder))


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load_model(folder, "cpu")(IDS).logits
    return found


def folded(folder: Path, out: Path, folding: Folding) -> Path:
    """The folder with its scales folded, and nothing quantized."""
    write_tensors(out, ((name, folding.change(name, tensor)) for name, tensor, _ in dense_tensors(folder, CPU)))
    copy_small_files(folder, out)
    return out


def families() -> dict[str, Any]:
    from transformers import Gemma2Config, Gemma3TextConfig, LlamaConfig, Qwen3Config

    return {
        "llama with biases": LlamaConfig(**shape(), attention_bias=True, mlp_bias=True),
        "llama without grouped queries": LlamaConfig(**{**shape(), "num_key_value_heads": 4}),
        "qwen3": Qwen3Config(**shape()),
        "gemma2": Gemma2Config(**shape()),
        "gemma3": Gemma3TextConfig(**shape()),
    }


@pytest.mark.parametrize("family", families())
def test_the_folded_model_is_the_same_function(
    save: Callable[..., Path], context: CompressionContext, tmp_path: Path, family: str
) -> None:
    folder = save(families()[family])
    step = AWQ(bits=3, group_size=32)
    folding, choices = search(folder, step, statistics_of(folder, of(context, folder)), CPU)
    # Scales at random move every mapping, whatever the search found.
    torch.manual_seed(2)
    stored = {name: tensor for name, tensor, _ in dense_tensors(folder, CPU)}
    for mapping, choice in choices.items():
        channels = torch.rand_like(choice.channels) * 3 + 0.2
        norm = stored[f"{mapping.writer}.weight"] if mapping.is_norm else None
        folding.add(mapping, channels, norm, 1.0 if family.startswith("gemma") else 0.0)

    before, after = logits(folder), logits(folded(folder, tmp_path, folding))

    assert len(choices) == 2 * 4
    changed = {name for name, tensor, _ in dense_tensors(tmp_path, CPU) if not torch.equal(tensor, stored[name])}
    assert set(read_checkpoint(folder).targets()) <= changed
    assert (after - before).abs().max() < 1e-5 * before.abs().max()


def test_a_bfloat16_norm_is_rounded_and_its_readers_make_up_for_it(
    save: Callable[..., Path], context: CompressionContext, tmp_path: Path
) -> None:
    from transformers import Gemma3TextConfig

    folder = save(Gemma3TextConfig(**shape()), torch.bfloat16)
    folding, _ = search(folder, STEPS[0], statistics_of(folder, of(context, folder)), CPU)
    before, after = logits(folder), logits(folded(folder, tmp_path, folding))
    assert any(not torch.equal(scales, torch.ones_like(scales)) for scales in folding.columns.values())
    assert all(weight.dtype == torch.bfloat16 for weight in folding.replaced.values())
    assert (after - before).abs().max() < 1e-5 * before.abs().max()


def test_norms_fold_as_worked_out_by_hand() -> None:
    # 1 + weight is 2, 1 and 0. Halved: 1, so the weight is 0; divided by 4: 0.25, so -0.75. 0 can't be scaled.
    weight, columns = folded_norm(torch.tensor([1.0, 0.0, -1.0]), torch.tensor([2.0, 4.0, 3.0]), offset=1.0)
    assert weight.tolist() == [0.0, -0.75, -1.0]
    assert columns.tolist() == [2.0, 4.0, 1.0]
    # 1 / 3 as bfloat16 is 171/512, which 512/171 undoes.
    weight, columns = folded_norm(torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([3.0]), offset=0.0)
    assert weight.item() == 171 / 512
    assert columns.item() == pytest.approx(512 / 171, rel=1e-7)


def test_query_heads_of_one_key_value_head_share_its_scales() -> None:
    # Two key-value heads of two channels, each read by two query heads one after another.
    mapping = ScaleMapping("v_proj", ("o_proj.weight",), heads=2, copies=2)
    assert mapping.to_columns(torch.tensor([1.0, 2, 3, 4])).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    assert mapping.to_channels(torch.tensor([1.0, 2, 3, 4, 0, 0, 2, 8])).tolist() == [2, 3, 1, 4]


def test_scales_as_worked_out_by_hand() -> None:
    # Roots of 16, 4 and 1 are 4, 2 and 1; the root of the largest times the least is 2.
    assert scales_of(torch.tensor([16.0, 4.0, 1.0]), 0.5).tolist() == pytest.approx([2.0, 1.0, 0.5])
    assert scales_of(torch.tensor([16.0, 4.0, 0.0]), 0.0).tolist() == [1, 1, 1]
    assert scales_of(torch.zeros(2), 0.5).tolist() == [1, 1]


def test_errors_by_the_hessian_are_those_of_the_outputs() -> None:
    torch.manual_seed(0)
    inputs, error = torch.randn(200, 12), torch.randn(5, 12)
    hessian = inputs.T @ inputs / 200
    outputs = (inputs @ error.T).square().mean(dim=0)
    assert row_errors(error, hessian).tolist() == pytest.approx(outputs.tolist(), rel=1e-4)
    blocks = diagonal_blocks(hessian, 3)
    assert torch.equal(blocks[1], hessian[4:8, 4:8])
    of_group = (inputs[:, 4:8] @ error[:, 4:8].T).square().mean(dim=0)
    assert group_errors(error, blocks)[:, 1].tolist() == pytest.approx(of_group.tolist(), rel=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_clipping_makes_no_row_worse_and_all_together_better(symmetric: bool, masked: bool) -> None:
    torch.manual_seed(0)
    weight = torch.distributions.StudentT(4.0).sample((32, 128))
    mask = torch.rand(weight.shape) < 0.5 if masked else None
    weight = weight if mask is None else weight * mask
    inputs = torch.randn(300, 128) @ torch.randn(128, 128)
    hessian = inputs.T @ inputs / 300
    nearest = round_to_nearest(weight, 3, 32, symmetric, mask)
    clipped = quantize_clipped(weight, hessian, 3, 32, symmetric, mask)
    before, after = (row_errors(weight - one.dequantized(), hessian) for one in (nearest, clipped))
    assert bool((after <= before).all())
    assert after.sum() < 0.9 * before.sum()
    if mask is not None:
        assert clipped.dequantized()[~mask].count_nonzero() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_kernels_do_what_the_cpu_does(symmetric: bool, masked: bool, bits: int) -> None:
    torch.manual_seed(0)
    weight = torch.distributions.StudentT(4.0).sample((200, 384))
    mask = torch.rand(weight.shape) < 0.5 if masked else None
    weight = weight if mask is None else weight * mask
    inputs = torch.randn(800, 384) @ torch.randn(384, 384)
    hessian = inputs.T @ inputs / 800
    columns = torch.rand(384) + 0.5
    for size in (32, 128):
        step = AWQ(bits=bits, group_size=size, symmetric=symmetric)
        there = (weight.cuda(), columns.cuda(), hessian.cuda(), None if mask is None else mask.cuda())
        one = rounding_error(weight, columns, step, mask)
        other = rounding_error(there[0], there[1], step, there[3]).cpu()
        # A value halfway between two points may go to either: the division of the one is not that of the other.
        assert ((one - other).abs() < 1e-4 * weight.abs().max()).float().mean() > 0.999
        assert float(other.norm() / one.norm()) == pytest.approx(1, rel=1e-3)
        clipped = quantize_clipped(weight, hessian, bits, size, symmetric, mask)
        moved = quantize_clipped(there[0], there[2], bits, size, symmetric, there[3])
        assert (clipped.grid.scale == moved.grid.scale.cpu()).float().mean() > 0.98
        before, after = (
            row_errors(weight - stored.dequantized().cpu(), hessian).sum().item() for stored in (clipped, moved)
        )
        assert after == pytest.approx(before, rel=5e-3)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_no_seam_errs_more_than_round_to_nearest(llama: Path, context: CompressionContext, step: Any) -> None:
    statistics = statistics_of(llama, of(context, llama))
    _, choices = search(llama, step, statistics, CPU)
    stored = {name: tensor.float() for name, tensor, _ in dense_tensors(llama, CPU)}
    for mapping, choice in choices.items():
        nearest = 0.0
        for name in mapping.readers:
            wrong = (
                stored[name] - round_to_nearest(stored[name], step.bits, step.group_size, step.symmetric).dequantized()
            )
            nearest += (wrong @ statistics.hessian(name, CPU) * wrong).sum().item()
        assert choice.unscaled_error == pytest.approx(nearest, rel=1e-4)
        assert choice.error <= choice.unscaled_error


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_written_model_is_nearer_to_its_parent_than_round_to_nearest(
    llama: Path, context: CompressionContext, tmp_path: Path, step: Any
) -> None:
    report = compress(llama, tmp_path, step, of(context, llama))

    checkpoint = read_checkpoint(llama)
    statistics = statistics_of(llama, of(context, llama))
    folding, _ = search(llama, step, statistics, CPU)
    stored = {name: tensor for name, tensor, _ in dense_tensors(tmp_path, CPU)}
    ours = nearest = 0.0
    for name, tensor, _ in dense_tensors(llama, CPU):
        if name not in checkpoint.targets():
            assert stored[name].dtype == tensor.dtype
            continue
        weight = tensor.float()
        rows = folding.rows.get(name, torch.ones(weight.shape[0]))
        hessian = statistics.hessian(name, CPU)
        ours += row_errors(weight - stored[name] / folding.columns[name] * rows[:, None], hessian).sum().item()
        plain = round_to_nearest(weight, step.bits, step.group_size, step.symmetric).dequantized()
        nearest += row_errors(weight - plain, hessian).sum().item()
    assert ours < 0.9 * nearest
    targeted = sum(tensor.parameters for tensor in checkpoint.targets().values())
    assert (report.targeted, report.changed) == (targeted, targeted)
    assert [note.partition(":")[0] for note in report.notes] == [
        "down_proj", "gate_proj up_proj", "o_proj", "q_proj k_proj v_proj",
    ]  # fmt: skip


def test_the_folder_runs_in_transformers_and_has_the_predicted_bytes(
    save_llama: Any, context: CompressionContext, tmp_path: Path
) -> None:
    folder: Path = save_llama(edit=uneven, initializer_range=0.1, vocab_size=4000)
    step = AWQ(bits=8, group_size=32)
    compress(folder, tmp_path, step, of(context, folder))
    predicted = predicted_bytes(read_checkpoint(folder), (step,))
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted, rel=0.005)
    before, after = logits(folder), logits(tmp_path)
    rtn.compress(folder, tmp_path, RTN(bits=8, group_size=32), context)
    assert (after - before).norm() < 0.9 * (logits(tmp_path) - before).norm()


def test_layers_of_another_kind_are_refused(save: Callable[..., Path], context: CompressionContext) -> None:
    from transformers import Olmo2Config, Phi3Config

    for config, odd in (
        (Olmo2Config(**shape(), eos_token_id=2), "input_layernorm"),
        (Phi3Config(**shape(), eos_token_id=2), "mlp.gate_proj"),
    ):
        folder = save(config)
        with pytest.raises(CandidateError, match=rf"layers\.0\.({odd}).* missing; use gptq"):
            mappings(read_checkpoint(folder), statistics_of(folder, of(context, folder)))


def test_a_weight_that_is_not_finite_is_refused(
    save_llama: Any, llama: Path, context: CompressionContext, tmp_path: Path
) -> None:
    def spoil(model: Any) -> None:
        model.model.layers[1].mlp.down_proj.weight[3, 3] = torch.inf

    spoilt = save_llama(edit=spoil)
    with pytest.raises(ValueError, match="finite"):
        compress(spoilt, tmp_path, STEPS[0], of(context, spoilt))
