"""W8A8: the rounding by hand, a folder that transformers runs as 8-bit weights times 8-bit inputs, a scale a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.methods.quantizers import W8A8
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import CPU, PARENTS, SHAPE, int8_tokens, logits, reference
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.compression.quantization.w8a8 import compress, quantize
from workers.loading.load import load_model
from workers.plan.compression_context import Report

STEP = W8A8()


@pytest.fixture(scope="module")
def parent(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.2, attention_bias=True)
    return saved


def dequantized(parent: Path) -> dict[str, torch.Tensor]:
    stored = load_file(parent / "model.safetensors")
    return {name: quantize(stored[name]).dequantized() for name in read_checkpoint(parent).targets()}


def written(parent: Path, out: Path) -> Path:
    compress(parent, out, STEP, CPU)
    return out


def test_rows_are_rounded_to_int8_as_worked_out_by_hand() -> None:
    weight = torch.tensor([[127.5, -127.5, 0.5, 1.5, -2.6], [0.0, 0.0, 0.0, 0.0, 0.0], [-31.875, 1.0, 0.3, 0.1, 8.0]])
    # Scales: 127.5 / 127.5 = 1; 1 for a row of zeros; 31.875 / 127.5 = 1/4. Halves go to the even integer, and 128
    # is cut to 127.
    found = quantize(weight)
    assert found.values.dtype == torch.int8
    assert found.scale.tolist() == [[1.0], [1.0], [0.25]]
    assert found.values.tolist() == [[127, -128, 0, 2, -3], [0, 0, 0, 0, 0], [-128, 4, 1, 0, 32]]


def test_a_weight_that_is_not_finite_is_refused(save_llama: Any, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        model.model.layers[0].self_attn.o_proj.weight[1, 2] = float("nan")

    with pytest.raises(ValueError, match="finite"):
        compress(save_llama(edit=spoil, num_hidden_layers=1), tmp_path, STEP, CPU)


def test_the_folder_holds_bytes_and_bfloat16_scales_and_all_else_as_it_was(parent: Path, tmp_path: Path) -> None:
    report = compress(parent, tmp_path, STEP, CPU)
    stored = load_file(tmp_path / "model.safetensors")
    targets = read_checkpoint(parent).targets()
    for name, weight in load_file(parent / "model.safetensors").items():
        if name in targets:
            expected = quantize(weight)
            assert torch.equal(stored.pop(name), expected.values)
            assert torch.equal(stored.pop(f"{name}_scale"), expected.scale)
        else:
            assert torch.equal(stored.pop(name), weight)
    assert stored == {}
    parameters = sum(tensor.parameters for tensor in targets.values())
    assert report == Report(parameters, parameters)
    assert read_config(tmp_path)["quantization_config"]["format"] == "int-quantized"


def test_it_runs_as_dequantized_weights_on_inputs_quantized_token_by_token(parent: Path, tmp_path: Path) -> None:
    model = load_model(written(parent, tmp_path), "cpu")
    weights = dequantized(parent)
    expected = logits(reference(parent, weights, int8_tokens))
    # The first pass multiplies the weights out; the inputs must be quantized in it, and still be so after it.
    for _ in range(2):
        assert torch.equal(logits(model), expected)
    assert (expected - logits(reference(parent, weights))).abs().max() > 0.01
    for name, weight in weights.items():
        assert torch.equal(model.get_parameter(name), weight)


def test_generation_decodes_as_the_reference_does(parent: Path, tmp_path: Path) -> None:
    prompt = torch.tensor([[1, 40, 7, 90], [1, 8, 19, 77]])
    models = [load_model(written(parent, tmp_path), "cpu"), reference(parent, dequantized(parent), int8_tokens)]
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(prompt), "pad_token_id": 0}
    found, expected = (model.generate(prompt, **settings) for model in models)
    assert torch.equal(found, expected)


def test_layers_that_are_given_tokens_without_a_batch_have_a_scale_a_token_too(tmp_path: Path) -> None:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    parent, out = tmp_path / "parent", tmp_path / "out"
    out.mkdir()
    config = OPTConfig(
        vocab_size=100, hidden_size=64, word_embed_proj_dim=64, ffn_dim=128, num_hidden_layers=2, init_std=0.2,
        num_attention_heads=4, max_position_embeddings=64, dropout=0.0, pad_token_id=0,
    )  # fmt: skip
    OPTForCausalLM(config).to(torch.bfloat16).save_pretrained(parent)
    model = load_model(written(parent, out), "cpu")
    expected = logits(reference(parent, dequantized(parent), int8_tokens))
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("name", sorted(PARENTS))
def test_the_predicted_bytes_are_those_written(save_llama: Any, tmp_path: Path, name: str) -> None:
    parent = save_llama(**(SHAPE | PARENTS[name]))
    predicted = predicted_bytes(read_checkpoint(parent), (STEP,))
    assert predicted == pytest.approx(bytes_on_disk(written(parent, tmp_path)), rel=0.002)
