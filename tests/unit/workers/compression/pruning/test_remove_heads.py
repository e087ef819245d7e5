"""Removal of key-value groups: one that another stands in for goes without loss, and transformers loads the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.pruners import RemoveHeads
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import segment
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.compression.pruning.remove_heads import compress, members
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

ONE = RemoveHeads(groups=1)
TEXT = "Translate this from English to German:\nEnglish: A cat sees a river.\nGerman: Ein"
WORDS = ("dog", "cat", "man", "house", "street", "river", "child", "horse")
PAIRS = [
    segment(f"A {first} sees a {second}.", f"Ein {second} und {first}.", id=f"{first}-{second}")
    for first in WORDS
    for second in WORDS
]


def context(store: Path | None, pairs: Any = PAIRS) -> CompressionContext:
    return CompressionContext(
        pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=store, parent_key="made", calibration_tokens=4000
    )


def double_group(model: Any) -> None:
    """The second of each layer's two groups attends and reads as the first does, and says something else with it."""
    for layer in model.model.layers:
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            if linear.bias is not None:
                linear.bias.uniform_(-0.5, 0.5)
            for tensor in linear.parameters():
                half = tensor.shape[0] // 2
                tensor[half:] = tensor[:half]


@pytest.fixture(scope="module")
def doubled(save_llama: Any) -> Path:
    saved: Path = save_llama(edit=double_group, initializer_range=0.2, dtype=torch.float32, attention_bias=True)
    return saved


@pytest.fixture(scope="module")
def four_groups(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.2, num_attention_heads=8, num_key_value_heads=4)
    return saved


def logits(folder: Path) -> torch.Tensor:
    """The logits on a text like those calibrated on."""
    with torch.inference_mode():
        found = load_model(folder, "cpu")(**load_tokenizer(folder)(TEXT, return_tensors="pt")).logits
    assert isinstance(found, torch.Tensor)
    return found


def test_a_group_that_another_stands_in_for_goes_without_changing_the_logits(doubled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    report = compress(doubled, out, ONE, context(tmp_path / "store"))

    before, after = logits(doubled), logits(out)
    assert (after - before).abs().max() < 0.02 * before.std()

    # Heads of width 16: two query heads and one key-value head stay of four and two.
    shapes = {name: tensor.shape for name, tensor in read_checkpoint(out).tensors.items()}
    for layer in range(3):
        stem = f"model.layers.{layer}.self_attn"
        assert shapes[f"{stem}.q_proj.weight"] == (32, 64)
        assert shapes[f"{stem}.k_proj.weight"] == shapes[f"{stem}.v_proj.weight"] == (16, 64)
        assert shapes[f"{stem}.o_proj.weight"] == (64, 32)
        assert [shapes[f"{stem}.{name}_proj.bias"] for name in "qkvo"] == [(32,), (16,), (16,), (64,)]
    # q of 64 × 64, k and v of 32 × 64, o of 64 × 64, and the biases of q, k and v.
    assert report.targeted == report.changed == 3 * (2 * 64 * 64 + 2 * 32 * 64 + 64 + 32 + 32)


def test_every_layers_removed_groups_are_told(four_groups: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    report = compress(four_groups, out, RemoveHeads(groups=2), context(tmp_path / "store"))
    before, after = (load_file(folder / "model.safetensors") for folder in (four_groups, out))
    assert len(report.notes) == 3
    for layer, note in enumerate(report.notes):
        start, said = note.split(" (")[0].split(": key-value groups removed: ")
        assert start == f"model.layers.{layer}"
        kept = [group for group in range(4) if group not in map(int, said.split(", "))]
        assert len(kept) == 2
        # Heads are 8 wide, and a group has two query heads.
        for letter, wide in (("q", 16), ("k", 8), ("v", 8)):
            name = f"model.layers.{layer}.self_attn.{letter}_proj.weight"
            assert torch.equal(after[name], before[name][members(torch.tensor(kept), wide)])


@pytest.mark.parametrize("groups", [2, 3])
def test_the_folder_takes_the_predicted_bytes_and_loads(four_groups: Path, tmp_path: Path, groups: int) -> None:
    out = tmp_path / "out"
    out.mkdir()
    step = RemoveHeads(groups=groups)
    compress(four_groups, out, step, context(tmp_path / "store"))
    assert bytes_on_disk(out) == pytest.approx(predicted_bytes(read_checkpoint(four_groups), (step,)), rel=0.005)
    config = json.loads((out / "config.json").read_text())
    left = 4 - groups
    changes = {"num_attention_heads": 2 * left, "num_key_value_heads": left, "head_dim": 8}
    assert config == json.loads((four_groups / "config.json").read_text()) | changes
    assert load_model(out, "cpu").model.layers[0].self_attn.o_proj.weight.shape == (64, 16 * left)
    assert logits(out).isfinite().all()


def test_norms_that_all_heads_share_stay(tmp_path: Path, character_tokenizer: Any) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(character_tokenizer) + 10, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=512,
            bos_token_id=1, eos_token_id=2, initializer_range=0.2,
        )
    )  # fmt: skip
    with torch.no_grad():
        double_group(model)
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.uniform_(0.5, 1.5)
    parent, out = tmp_path / "parent", tmp_path / "out"
    out.mkdir()
    model.save_pretrained(parent)
    character_tokenizer.save_pretrained(parent)

    compress(parent, out, ONE, context(tmp_path / "store"))

    before, after = logits(parent), logits(out)
    assert (after - before).abs().max() < 0.05 * before.std()
    loaded = load_model(out, "cpu")
    norm = load_file(parent / "model.safetensors")["model.layers.0.self_attn.q_norm.weight"]
    assert torch.equal(loaded.model.layers[0].self_attn.q_norm.weight, norm.float())
    assert loaded.config.head_dim == 32


def test_a_number_of_heads_that_does_not_divide_the_hidden_size_is_refused(four_groups: Path, tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="6 heads, which do not divide the hidden size 64"):
        compress(four_groups, tmp_path, ONE, context(tmp_path / "store"))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("q_norm.weight", (128,)), ("q_norm.weight", (8, 8)), ("sinks", (8,) * 2), ("o_norm.weight", (64,))],
)
def test_a_tensor_that_differs_by_head_is_refused(
    four_groups: Path, tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(four_groups, parent)
    tensors = load_file(four_groups / "model.safetensors")
    save_file(tensors | {f"model.layers.1.self_attn.{name}": torch.ones(shape)}, parent / "model.safetensors")
    with pytest.raises(CandidateError, match=rf"model\.layers\.1\.self_attn\.{name} .*is not one for all heads"):
        compress(parent, tmp_path / "out", RemoveHeads(groups=2), context(tmp_path / "store"))


def test_queries_that_hold_more_than_heads_are_refused(four_groups: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(four_groups, parent)
    tensors = load_file(four_groups / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"] = torch.ones(128, 64)
    save_file(tensors, parent / "model.safetensors")
    with pytest.raises(CandidateError, match="has 128 rows where 8 heads in 4 groups of width 8 make 64"):
        compress(parent, tmp_path / "out", RemoveHeads(groups=2), context(tmp_path / "store"))


def test_without_calibration_pairs_it_is_refused(four_groups: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs calibration pairs"):
        compress(four_groups, tmp_path / "out", RemoveHeads(groups=2), context(tmp_path / "store", ()))


def test_members_are_the_positions_of_whole_groups() -> None:
    assert members(torch.tensor([0, 2]), 3).tolist() == [0, 1, 2, 6, 7, 8]
