"""Folders loaded with their weights kept packed: the same logits as the dense engine, and the bytes that are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import ModelFilesError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import (
    FP8,
    GPTQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from tests.support.dense_reference import CPU, logits
from tests.support.examples import segment
from tests.support.paths import CAPTIONS
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.mixed_widths import mixed
from workers.compression.pruning import magnitude
from workers.compression.quantization import bitsandbytes, embeddings, fp8, gptq, rtn, w8a8
from workers.loading.load import load_model
from workers.packed.held import DecompressedError, assert_packed, held_bytes, stored_bytes
from workers.packed.linear import PackedEmbedding, PackedLinear
from workers.packed.load import NotPackedError, load_packed
from workers.packed.modules import kernel_names
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

DEVICE = torch.device("cpu")
SHIPPED = CAPTIONS
STEPS: dict[str, tuple[Any, Any]] = {
    "rtn 8": (rtn, RTN(bits=8, group_size=-1)),
    "rtn 4": (rtn, RTN(bits=4)),
    "rtn 3 asymmetric": (rtn, RTN(bits=3, symmetric=False)),
    "rtn 2": (rtn, RTN(bits=2, group_size=32)),
    "gptq": (gptq, GPTQ(bits=4)),
    "mixed with embeddings": (mixed, MixedWidths(bits=3.5, score="error", embeddings=True)),
    "embeddings alone": (embeddings, QuantizeEmbeddings(bits=4)),
    "fp8": (fp8, FP8()),
    "fp8 inputs": (fp8, FP8(activations=True)),
    "w8a8": (w8a8, W8A8()),
    "int8": (bitsandbytes, BitsAndBytes(format="int8")),
    "nf4": (bitsandbytes, BitsAndBytes(format="nf4", double_quantization=True)),
}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> CompressionContext:
    pairs = [segment(f"Source {n} is here.", f"Quelle {n} ist da!") for n in range(64)]
    return CompressionContext(
        pairs, PROMPTS["alma"], DEVICE, 0, store=tmp_path_factory.mktemp("store"), parent_key="shipped",
        calibration_tokens=1024,
    )  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_packed_model_computes_what_the_dense_engine_does_in_the_bytes_that_are_stored(
    name: str, tmp_path: Path, context: CompressionContext
) -> None:
    method, step = STEPS[name]
    method.compress(SHIPPED, tmp_path, step, context)
    model = load_packed(tmp_path, DEVICE)
    found = logits(model)
    assert float((found - logits(load_model(tmp_path, "cpu"))).abs().max()) == 0.0
    # After the first forward pass too, where transformers multiplies packed weights out.
    assert_packed(model, tmp_path)
    assert held_bytes(model) < 0.7 * held_bytes(load_model(SHIPPED, "cpu"))


def test_a_dense_folder_loads_as_it_always_does() -> None:
    model = load_packed(SHIPPED, DEVICE)
    assert kernel_names(model) == ("torch",)
    assert held_bytes(model) == pytest.approx(stored_bytes(SHIPPED, torch.float32), rel=0.001)


def test_a_model_that_was_decompressed_is_refused(tmp_path: Path) -> None:
    rtn.compress(SHIPPED, tmp_path, RTN(bits=4), CPU)
    model = load_model(tmp_path, "cpu")
    logits(model)
    with pytest.raises(DecompressedError, match="not kept as they are stored"):
        assert_packed(model, tmp_path)


def test_a_tied_head_shares_the_packed_embeddings(tmp_path: Path) -> None:
    embeddings.compress(SHIPPED, tmp_path, QuantizeEmbeddings(bits=8), CPU)
    model = load_packed(tmp_path, DEVICE)
    assert isinstance(model.model.embed_tokens, PackedEmbedding)
    assert isinstance(model.lm_head, PackedLinear)
    assert model.lm_head.packed.data_ptr() == model.model.embed_tokens.packed.data_ptr()
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("shape", [{"attention_bias": True, "mlp_bias": True}, {"tie_word_embeddings": False}])
def test_biases_and_own_heads_are_loaded(save_llama: Any, tmp_path: Path, shape: dict[str, Any]) -> None:
    def biased(model: Any) -> None:
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.uniform_(-1, 1)

    folder = save_llama(edit=biased, initializer_range=0.2, **shape)
    layers, both = tmp_path / "layers", tmp_path / "both"
    layers.mkdir()
    both.mkdir()
    rtn.compress(folder, layers, RTN(bits=3, group_size=32, symmetric=False), CPU)
    embeddings.compress(layers, both, QuantizeEmbeddings(bits=8, group_size=32), CPU)
    for packed in (layers, both):
        found = logits(load_packed(packed, DEVICE))
        assert float((found - logits(load_model(packed, "cpu"))).abs().max()) < 1e-5


def test_gemmas_embeddings_keep_their_factor(tmp_path: Path) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    base, layers, both = (tmp_path / name for name in ("base", "layers", "both"))
    for folder in (layers, both):
        folder.mkdir()
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(base)
    rtn.compress(base, layers, RTN(bits=4, group_size=32), CPU)
    embeddings.compress(layers, both, QuantizeEmbeddings(bits=8, group_size=32), CPU)
    found = logits(load_packed(both, DEVICE))
    torch.testing.assert_close(found, logits(load_model(both, "cpu")), rtol=1e-5, atol=1e-5)


def test_sparse_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    magnitude.compress(SHIPPED, tmp_path, Magnitude(sparsity=0.5), CPU)
    with pytest.raises(NotPackedError, match="sparse"):
        load_packed(tmp_path, DEVICE)


def test_bitsandbytes_layers_under_packed_embeddings_are_refused(tmp_path: Path) -> None:
    layers, both = tmp_path / "layers", tmp_path / "both"
    layers.mkdir()
    both.mkdir()
    bitsandbytes.compress(SHIPPED, layers, BitsAndBytes(format="nf4"), CPU)
    embeddings.compress(layers, both, QuantizeEmbeddings(bits=8), CPU)
    with pytest.raises(NotPackedError, match="bitsandbytes"):
        load_packed(both, DEVICE)


def test_a_folder_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    rtn.compress(SHIPPED, tmp_path, RTN(bits=4), CPU)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("model.norm.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    assert "model.norm.weight" not in read_checkpoint(tmp_path).tensors
    with pytest.raises(ModelFilesError, match=r"model\.norm\.weight"):
        load_packed(tmp_path, DEVICE)
