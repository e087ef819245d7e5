"""GGUF of kept models: every grid in its block, every family's rows and norms, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import RTN, W8A8, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.support.paths import CAPTIONS, DATA
from tests.support.tiny_models import tiny_model
from tests.support.trained_tokenizers import byte_level, gemma, llama
from workers.checkpoints.gguf_header import GgufHeader, read_gguf
from workers.evaluation.methods import compress
from workers.export.formats.gguf_blocks import block_type, to_blocks
from workers.export.formats.gguf_file import FILE, MOST_LOST, write_gguf
from workers.export.formats.grids import WeightForm
from workers.loading.gguf_folder import LLAMA3, write_folder
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.reading.dataset import read_dataset
from workers.stored_forms.checkpoint import dense_tensors
from workers.stored_forms.integer_grid import Grid, QuantizedWeight
from workers.translation.prompts import PROMPTS

IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61, 8]])


def made(folder: Path, *steps: Step) -> Path:
    """The shipped model, compressed."""
    shown = read_dataset(str(DATA / "calibration.jsonl.gz")).segments[:32]
    context = CompressionContext(
        shown,
        PROMPTS["alma"],
        torch.device("cpu"),
        0,
        store=folder / "store",
        parent_key="captions",
        calibration_tokens=512,
    )
    parent = CAPTIONS
    for number, step in enumerate(steps):
        (out := folder / str(number)).mkdir()
        compress(parent, out, step, context)
        parent = out
    return parent


def decoded(header: GgufHeader, name: str) -> torch.Tensor:
    """A tensor as the package `gguf` decodes it."""
    reader = gguf.GGUFReader(header.file)
    found = next(one for one in reader.tensors if one.name == name)
    return torch.from_numpy(np.array(gguf.dequantize(found.data, found.tensor_type), dtype=np.float32))


def read_back(file: Path, out: Path) -> Path:
    out.mkdir()
    write_folder(read_gguf(file), out, lambda line: None)
    return out


@pytest.mark.parametrize(
    ("bits", "symmetric", "kind"),
    [
        (8, True, "Q8_0"),
        (4, True, "Q4_0"),
        (3, True, "Q4_0"),
        (4, False, "Q4_1"),
        (2, False, "Q4_1"),
    ],
)
@pytest.mark.parametrize("group", [32, 64, 128])
def test_every_grid_is_what_the_package_decodes(bits: int, symmetric: bool, kind: str, group: int) -> None:
    draw = torch.Generator().manual_seed(bits + group)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    integers = torch.randint(low, high, (5, 128), generator=draw).to(torch.int8)
    scale = (torch.rand(5, 128 // group, generator=draw) / 100 + 1e-3).bfloat16()
    zero = None if symmetric else torch.randint(low, high, (5, 128 // group), generator=draw).to(torch.int8)
    weight = QuantizedWeight(integers, Grid(scale, zero), bits)
    assert block_type(WeightForm((5, 128), bits, group, symmetric)) == kind
    stored = to_blocks(weight, kind)
    assert stored.dtype == np.uint8
    found = torch.from_numpy(gguf.dequantize(stored, gguf.GGMLQuantizationType[kind]))
    step = scale.float().repeat_interleave(group, 1)
    assert ((found - weight.dequantized()).abs() / step).max() <= (0 if symmetric else MOST_LOST)


def test_what_a_mask_leaves_out_is_zero() -> None:
    integers = torch.full((2, 64), 3, dtype=torch.int8)
    mask = torch.arange(64).repeat(2, 1) % 4 == 0
    zero = torch.tensor([[1, -2], [0, 3]], dtype=torch.int8)
    weight = QuantizedWeight(integers, Grid(torch.full((2, 2), 0.5).bfloat16(), zero), 4, mask)
    found = torch.from_numpy(gguf.dequantize(to_blocks(weight, "Q4_1"), gguf.GGMLQuantizationType.Q4_1))
    assert torch.equal(found, weight.dequantized())


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (WeightForm((4, 96), 4, 16), "a group size of 32, 64 or 128 would do"),
        (WeightForm((4, 96), 4, 48), "group size is 48"),
        (WeightForm((4, 40), 4, 40), "40 columns, and GGUF's blocks have 32"),
        (WeightForm((4, 96), 8, 32, False), "8 symmetric bits, or at most 4 bits with zero points"),
    ],
)
def test_a_grid_without_a_type_says_what_would_do(form: WeightForm, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        block_type(form)


def test_a_compressed_model_comes_back_weight_for_weight(tmp_path: Path) -> None:
    kept = made(tmp_path, RTN(bits=4, group_size=64), QuantizeEmbeddings(bits=8))
    notes = write_gguf(kept, tmp_path, "captions", ["Translate this from English to German:\nEnglish: A\nGerman:"])
    assert notes == ["scales of 64 columns are repeated in each block of 32, which changes no weight"]
    header = read_gguf(tmp_path / FILE)
    assert {one.type for one in header.tensors} == {"Q4_0", "Q8_0", "F32"}
    back = load_file(read_back(tmp_path / FILE, tmp_path / "back") / "model.safetensors")
    ours = {name: tensor for name, tensor, _ in dense_tensors(kept, torch.device("cpu"))}
    assert back.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(back[name], tensor.bfloat16()), name
    # Not only to bfloat16: a tensor that llama.cpp has in our order of rows.
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(decoded(header, "blk.1.ffn_down.weight"), ours[name])


def test_grids_of_zero_points_and_masks_come_back_within_a_step(tmp_path: Path) -> None:
    kept = made(tmp_path, Magnitude(sparsity=0.25), RTN(bits=3, group_size=32, symmetric=False))
    notes = write_gguf(kept, tmp_path, "captions", [])
    assert notes[0] == "weights of 3 bits stand as Q4_1, the least of GGUF's types that holds them"
    assert decoded(read_gguf(tmp_path / FILE), "blk.0.ffn_up.weight").eq(0).float().mean() > 0.2


def test_a_dense_model_keeps_its_type_and_says_the_same(tmp_path: Path) -> None:
    assert write_gguf(CAPTIONS, tmp_path, "captions", []) == []
    assert {one.type for one in read_gguf(tmp_path / FILE).tensors} == {"BF16", "F32"}
    back = read_back(tmp_path / FILE, tmp_path / "back")
    with torch.inference_mode():
        assert torch.equal(load_model(back, "cpu")(IDS).logits, load_model(CAPTIONS, "cpu")(IDS).logits)


# Gemma 3 sees everything in each sixth layer.
GEMMA3 = ["sliding_attention"] * 5 + ["full_attention"]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"num_hidden_layers": 6, "layer_types": GEMMA3},
}


def saved(folder: Path, family: str, tokenizer: Any, **changes: Any) -> Path:
    """A tiny model of the family in bfloat16, with that tokenizer."""
    model = tiny_model(family, vocab_size=len(tokenizer), **changes).bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_the_same_when_transformers_reads_it_back(family: str, tmp_path: Path) -> None:
    """transformers' reader knows the order of rows, the shift of norms and the names by itself."""
    kept = saved(tmp_path / "kept", family, byte_level(), **FAMILIES[family])
    write_gguf(kept, tmp_path, "tiny", ["A dog runs."])
    back = read_back(tmp_path / FILE, tmp_path / "back")
    with torch.inference_mode():
        ours, theirs = (load_model(one, "cpu")(IDS).logits for one in (kept, back))
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(("family", "tokenizer", "space"), [("llama", llama, True), ("gemma2", gemma, False)])
def test_sentencepiece_vocabularies_are_cut_as_llama_cpp_cuts_them(
    family: str, tokenizer: Callable[[], Any], space: bool, tmp_path: Path
) -> None:
    kept = saved(tmp_path / "kept", family, tokenizer(), **FAMILIES[family])
    texts = [segment.source for segment in read_dataset(str(DATA / "subset.jsonl")).segments[:40]]
    write_gguf(kept, tmp_path, "tiny", [*texts, "Žluťoučký kůň"])
    said = read_gguf(tmp_path / FILE).metadata
    assert said["tokenizer.ggml.model"] == "llama"
    assert said["tokenizer.ggml.add_bos_token"] is True
    assert said["tokenizer.ggml.add_space_prefix"] is space
    assert set(said["tokenizer.ggml.token_type"]) == {1, 2, 3, 6}


def test_settings_of_llama_3_become_factors_and_come_back(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3}
    kept = saved(tmp_path / "kept", "llama", byte_level(), head_dim=64, rope_parameters=rope)
    write_gguf(kept, tmp_path, "llama", [])
    assert read_gguf(tmp_path / FILE).tensor("rope_freqs.weight") is not None
    back = read_back(tmp_path / FILE, tmp_path / "back")
    assert json.loads((back / "config.json").read_text())["rope_parameters"] == rope


def test_a_window_that_llama_cpp_does_not_know_bounds_the_context(tmp_path: Path) -> None:
    kept = saved(tmp_path / "kept", "mistral", byte_level(), sliding_window=64)
    (note,) = write_gguf(kept, tmp_path, "tiny", [])
    assert "the context is 64 tokens" in note
    assert read_gguf(tmp_path / FILE).metadata["llama.context_length"] == 64


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (RTN(bits=8, symmetric=False), "8 bits with zero points, which no type of GGUF holds: 8 symmetric bits"),
        (W8A8(), "the inputs of its layers are quantized too"),
        (BitsAndBytes(format="nf4"), "bitsandbytes' types are none of GGUF's; --format merged-bf16"),
    ],
)
def test_a_form_that_is_no_type_of_ggufs_is_refused(step: Step, said: str, tmp_path: Path) -> None:
    kept = made(tmp_path, step)
    with pytest.raises(StudyError, match=said):
        write_gguf(kept, tmp_path, "captions", [])
    assert not (tmp_path / FILE).exists()


def test_other_models_are_refused_with_the_reason(tmp_path: Path) -> None:
    kept = saved(tmp_path / "kept", "gemma3_text", byte_level())
    with pytest.raises(StudyError, match="all layers of gemma3_text but each 6th see a window alone"):
        write_gguf(kept, tmp_path, "gemma", [])
    config = json.loads((CAPTIONS / "config.json").read_text())
    for change, said in (
        ({"model_type": "bloom"}, "bloom models are not written as GGUF here: llama, mistral, qwen2"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "of the type 'yarn'"),
    ):
        (kept / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(StudyError, match=said):
            write_gguf(kept, tmp_path, "other", [])


def test_a_tokenizer_that_does_not_pass_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    kept = saved(tmp_path / "kept", "llama", tokenizer)
    record = json.loads((kept / "tokenizer.json").read_text())
    record["normalizer"] = {"type": "Lowercase"}
    (kept / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(StudyError, match=r"Hello, World!.*would become other tokens in llama\.cpp"):
        write_gguf(kept, tmp_path, "llama", [])
    record["pre_tokenizer"] = {"type": "Whitespace"}
    (kept / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(StudyError, match=r"tokenizer"):
        write_gguf(kept, tmp_path, "llama", [])
