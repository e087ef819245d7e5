"""Removal of MLP channels: what others can stand in for goes without loss, and transformers loads what stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.pruners import RemoveChannels
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import segment
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.compression.pruning.remove_channels import compress
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.translation.prompts import PROMPTS

WIDTH, KEPT = 128, 96
QUARTER = RemoveChannels(share=0.25)
TEXT = "Translate this from English to German:\nEnglish: A cat sees a river in 1912.\nGerman: Ein"
WORDS = ("dog", "cat", "man", "house", "street", "river", "child", "horse")
PAIRS = [
    segment(f"A {first} {verb} a {second} in 19{number}.", f"Ein {second} {verb[::-1]} {first}.", id=str(number))
    for number, (first, second, verb) in enumerate(
        (first, second, verb) for first in WORDS for second in WORDS[::2] for verb in ("sees", "jumps over")
    )
]


def context(store: Path | None, pairs: Any = PAIRS) -> CompressionContext:
    return CompressionContext(
        pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=store, parent_key="made", calibration_tokens=4000
    )


def double_channels(model: Any) -> None:
    """The last quarter of every MLP's channels computes what the first does, and says something else with it."""
    for layer in model.model.layers:
        for linear in (layer.mlp.gate_proj, layer.mlp.up_proj):
            linear.bias.uniform_(-0.5, 0.5)
            for tensor in linear.parameters():
                tensor[KEPT:] = tensor[: WIDTH - KEPT]


@pytest.fixture(scope="module")
def doubled(save_llama: Any) -> Path:
    saved: Path = save_llama(edit=double_channels, initializer_range=0.2, dtype=torch.float32, mlp_bias=True)
    return saved


@pytest.fixture(scope="module")
def plain(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.2)
    return saved


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def logits(folder: Path) -> torch.Tensor:
    """The logits on a text like those calibrated on."""
    with torch.inference_mode():
        found = load_model(folder, "cpu")(**load_tokenizer(folder)(TEXT, return_tensors="pt")).logits
    assert isinstance(found, torch.Tensor)
    return found


def test_channels_that_others_stand_in_for_go_without_changing_the_logits(doubled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    compress(doubled, out, QUARTER, context(tmp_path / "store"))

    before, after = logits(doubled), logits(out)
    assert (after - before).abs().max() < 0.01 * before.std()

    shapes = {name: tensor.shape for name, tensor in read_checkpoint(out).tensors.items()}
    for layer in range(3):
        stem = f"model.layers.{layer}.mlp"
        assert shapes[f"{stem}.gate_proj.weight"] == shapes[f"{stem}.up_proj.weight"] == (KEPT, 64)
        assert shapes[f"{stem}.gate_proj.bias"] == shapes[f"{stem}.up_proj.bias"] == (KEPT,)
        assert shapes[f"{stem}.down_proj.weight"] == (64, KEPT)
        assert shapes[f"{stem}.down_proj.bias"] == (64,)


def test_dropping_the_same_channels_without_compensation_changes_the_logits(doubled: Path, tmp_path: Path) -> None:
    shutil.copytree(doubled, tmp_path / "cut")
    tensors = load_file(doubled / "model.safetensors")
    for name in tensors:
        if name.endswith("down_proj.weight"):
            tensors[name][:, KEPT:] = 0
    save_file(tensors, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    before = logits(doubled)
    assert (logits(tmp_path / "cut") - before).abs().max() > 0.5 * before.std()


def test_what_stays_of_gate_and_up_is_rows_of_the_parents(doubled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    compress(doubled, out, QUARTER, context(tmp_path / "store"))
    before, after = (load_file(folder / "model.safetensors") for folder in (doubled, out))
    for layer in range(3):
        rows: list[list[int]] = []
        for name in ("gate_proj.weight", "up_proj.weight", "gate_proj.bias"):
            old, new = (tensors[f"model.layers.{layer}.mlp.{name}"] for tensors in (before, after))
            same = (new[:, None] == old[None]).flatten(2).all(-1) if new.ndim == 2 else new[:, None] == old[None]
            rows.append(same.int().argmax(1).tolist())
            assert same.any(1).all()
        assert rows[0] == rows[1] == rows[2]
        # Of each channel and its double one stays; both are found as the first of the parent's rows that are the same.
        assert sorted(rows[0]) == list(range(KEPT))
    untouched = [name for name in before if ".mlp." not in name or name.endswith("down_proj.bias")]
    assert all(torch.equal(before[name], after[name]) for name in untouched)


@pytest.mark.parametrize(("share", "kept"), [(0.25, 96), (0.5, 64), (0.75, 32)])
def test_the_folder_takes_the_predicted_bytes_and_loads(
    plain: Path, store: Path, tmp_path: Path, share: float, kept: int
) -> None:
    step = RemoveChannels(share=share)
    report = compress(plain, tmp_path, step, context(store))
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted_bytes(read_checkpoint(plain), (step,)), rel=0.005)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == json.loads((plain / "config.json").read_text()) | {"intermediate_size": kept}
    model = load_model(tmp_path, "cpu")
    assert model.model.layers[2].mlp.down_proj.weight.shape == (64, kept)
    assert logits(tmp_path).isfinite().all()
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    # Three layers of three weights of 64 × 128 shrank.
    assert (report.targeted, report.changed) == (3 * 3 * 64 * WIDTH,) * 2
    assert report.notes[0] == f"MLP channels: {WIDTH} -> {kept}"


def test_the_same_channels_go_every_time(plain: Path, store: Path, tmp_path: Path) -> None:
    reports: list[Report] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        reports.append(compress(plain, tmp_path / name, QUARTER, context(store)))
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    assert reports[0] == reports[1]


def test_a_model_with_a_further_tensor_a_channel_is_refused(plain: Path, store: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(plain, parent)
    tensors = load_file(plain / "model.safetensors") | {"model.layers.1.mlp.ffn_sub_norm.weight": torch.ones(WIDTH)}
    save_file(tensors, parent / "model.safetensors")
    with pytest.raises(CandidateError, match=r"model\.layers\.1\.mlp\.ffn_sub_norm\.weight .*goes by channel"):
        compress(parent, tmp_path / "out", QUARTER, context(store))


def test_a_model_with_layers_of_several_widths_is_refused(plain: Path, store: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(plain, parent)
    tensors = load_file(plain / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"] = torch.ones(160, 64)
    save_file(tensors, parent / "model.safetensors")
    with pytest.raises(CandidateError, match=r"has 160 rows where config.json's intermediate_size is 128"):
        compress(parent, tmp_path / "out", QUARTER, context(store))


def test_a_model_with_other_names_is_refused(plain: Path, store: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(plain, parent)
    tensors = load_file(plain / "model.safetensors")
    save_file(
        {name.replace("mlp.down_proj", "mlp.fc2"): tensor for name, tensor in tensors.items()},
        parent / "model.safetensors",
    )
    with pytest.raises(CandidateError, match="as Llama, Mistral, Gemma and Qwen do"):
        compress(parent, tmp_path / "out", QUARTER, context(store))


def test_without_calibration_pairs_it_is_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs calibration pairs"):
        compress(plain, tmp_path / "out", QUARTER, context(tmp_path / "store", ()))
