"""Every folder that compression writes is loaded as the weights it stands for: by transformers alone where it can be,
by this project's loader where it can't; and quantized embeddings, which are among the latter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import ModelFilesError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import (
    FP8,
    RTN,
    W8A8,
    BitsAndBytes,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.quantized import after_embeddings
from tests.support.dense_reference import CPU, IDS, logits, reference
from tests.support.paths import CAPTIONS
from workers.checkpoints.model_files import bytes_on_disk, needed_files, read_checkpoint, read_config, weight_files
from workers.compression.quantization.rtn import quantize
from workers.evaluation.methods import compress
from workers.loading.load import load_for_calibration, load_model
from workers.loading.readme import write_readme
from workers.stored_forms import checkpoint as folders

SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "initializer_range": 0.2}
EIGHT = QuantizeEmbeddings(bits=8, group_size=32)
# Parents of quantized embeddings, with the kinds of layer that have to be loaded beside them.
PARENTS: dict[str, tuple[Step, ...]] = {
    "dense": (),
    "packed": (RTN(bits=3, symmetric=False),),
    "sparse": (Magnitude(),),
    "sparse and packed": (Magnitude(), RTN(bits=4)),
    "fp8": (FP8(),),
    "fp8 with activations": (FP8(activations=True),),
    "w8a8": (W8A8(),),
    "int8": (BitsAndBytes(format="int8"),),
    "nf4": (BitsAndBytes(format="nf4"),),
}
PLAIN_STEPS = [
    RTN(bits=bits, group_size=size, symmetric=symmetric)
    for bits in (8, 4, 3, 2)
    for size, symmetric in ((32, True), (64, False), (128, True), (-1, False))
]

# Loads each folder in float32 and bfloat16, and says what the refused ones are refused with.
ALONE = """
import json, sys, torch
from transformers import AutoModelForCausalLM
asked = json.load(open("asked.json"))
found, refused = {}, {}
for folder in asked["folders"]:
    for dtype in ("float32", "bfloat16"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        with torch.inference_mode():
            found[folder, dtype] = model(torch.tensor(asked["ids"])).logits.clone()
for folder in asked["own"]:
    try:
        AutoModelForCausalLM.from_pretrained(folder)
    except OSError as error:
        refused[folder] = str(error)
assert not {"workers", "search_spaces"} & set(sys.modules)
torch.save((found, refused), "found.pt")
"""


@pytest.fixture(scope="module")
def parents(save_llama: Any) -> dict[str, Path]:
    return {name: save_llama(tie_word_embeddings=name == "tied", **SHAPE) for name in ("tied", "untied")}


def made(parent: Path, scratch: Path, *steps: Step) -> Path:
    for step in steps:
        out = scratch / f"{len(list(scratch.iterdir()))}"
        out.mkdir()
        compress(parent, out, step, CPU)
        parent = out
    return parent


def dequantized(parent: Path, step: RTN) -> dict[str, torch.Tensor]:
    stored = load_file(parent / "model.safetensors")
    return {
        name: quantize(stored[name], step.bits, step.group_size, step.symmetric).dequantized()
        for name in read_checkpoint(parent).targets()
    }


def with_embeddings(model: Any, parent: Path, step: QuantizeEmbeddings) -> Any:
    """The model with its embeddings, and a head of its own, as the step dequantizes them."""
    stored = load_file(parent / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in stored:
            weight = quantize(stored[name], step.bits, step.group_size).dequantized()
            model.get_submodule(name.removesuffix(".weight")).weight.data.copy_(weight)
    return model


def test_transformers_alone_runs_packed_folders_and_refuses_our_own(parents: dict[str, Path], tmp_path: Path) -> None:
    folders_of = {
        made(parents["tied" if number % 2 else "untied"], tmp_path, step): (number % 2, step)
        for number, step in enumerate(PLAIN_STEPS)
    }
    own = [made(parents["untied"], tmp_path, *steps, EIGHT) for steps in ((), PARENTS["packed"], PARENTS["w8a8"])]
    own.append(made(parents["tied"], tmp_path, Magnitude()))
    asked = {"folders": [str(path) for path in folders_of], "own": [str(path) for path in own], "ids": IDS.tolist()}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    run = subprocess.run([sys.executable, "-I", "-c", ALONE], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found, refused = torch.load(tmp_path / "found.pt")

    for path, (tied, step) in folders_of.items():
        parent = parents["tied" if tied else "untied"]
        model = reference(parent, dequantized(parent, step))
        assert torch.equal(found[str(path), "float32"], logits(model)), step
        # Weights rounded to bfloat16 once, and nothing else; rotary frequencies, a buffer, stay in float32.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        assert torch.equal(found[str(path), "bfloat16"], logits(model)), step
    assert refused.keys() == set(map(str, own))
    assert all("no file named model.safetensors" in said for said in refused.values())


@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("kind", PARENTS)
def test_quantized_embeddings_run_as_their_dequantized_weights_beside_any_layers(
    parents: dict[str, Path], tmp_path: Path, kind: str, tied: str
) -> None:
    before = made(parents[tied], tmp_path, *PARENTS[kind])
    out = made(before, tmp_path, EIGHT)
    model = load_model(out, "cpu")
    with_it = load_model(before, "cpu")
    # The parent's first forward pass is what multiplies packed layers out.
    plain = logits(with_it)
    expected = logits(with_embeddings(with_it, parents[tied], EIGHT))
    found = logits(model)
    assert torch.equal(found, expected)
    assert (found - plain).abs().max() > 1e-3
    shared = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert shared is (tied == "tied")
    assert any("lm_head" in name for name in read_checkpoint(out).tensors) is (tied == "untied")
    assert model.generation_config.eos_token_id == with_it.generation_config.eos_token_id


@pytest.mark.parametrize("kind", ["dense", "packed", "sparse", "sparse and packed"])
def test_models_are_calibrated_as_they_are_scored(parents: dict[str, Path], tmp_path: Path, kind: str) -> None:
    out = made(parents["tied"], tmp_path, *PARENTS[kind])
    calibrated = load_for_calibration(out, torch.device("cpu"))
    assert torch.equal(logits(calibrated), logits(load_model(out, "cpu")))
    assert not calibrated.training
    assert calibrated.dtype == torch.float32


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_quantized_embeddings_take_the_tensors_and_headers_predicted(
    parents: dict[str, Path], tmp_path: Path, tied: str, bits: int
) -> None:
    step = QuantizeEmbeddings(bits=bits, group_size=64)
    out = made(parents[tied], tmp_path, step)
    predicted, written = after_embeddings(read_checkpoint(parents[tied]), step), read_checkpoint(out)
    assert dict(predicted.tensors) == dict(written.tensors)
    # safetensors orders the tensors anew, so that offsets have other numbers of digits.
    assert predicted.header_bytes == pytest.approx(written.header_bytes, rel=0.02)
    groups = read_config(out)["quantization_config"]["config_groups"].values()
    assert [group["targets"] for group in groups] == [["Embedding"] if tied == "tied" else ["Embedding", "lm_head"]]


@pytest.mark.parametrize("kind", PARENTS)
def test_the_shipped_models_bytes_are_as_predicted(tmp_path: Path, kind: str) -> None:
    steps = (*PARENTS[kind], EIGHT)
    predicted = predicted_bytes(read_checkpoint(CAPTIONS), steps)
    assert predicted == pytest.approx(bytes_on_disk(made(CAPTIONS, tmp_path, *steps)), rel=0.005)


def test_embeddings_that_are_not_finite_are_refused(save_llama: Any, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        model.model.embed_tokens.weight[3, 1] = float("inf")

    with pytest.raises(ValueError, match="finite"):
        made(save_llama(edit=spoil, num_hidden_layers=1), tmp_path, EIGHT)


def test_shards_hold_the_same_model_wherever_the_parts_of_a_weight_lie(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, own = (RTN(bits=4, group_size=32),), (Magnitude(), RTN(bits=4), EIGHT)
    whole = [logits(load_model(made(parents["untied"], tmp_path, *steps), "cpu")) for steps in (packed, own)]
    monkeypatch.setattr(folders, "SHARD_BYTES", 5000)
    for steps, name, expected in zip((packed, own), ("model", "packed"), whole, strict=True):
        # The last step's parent has shards too, so its index is read and must not be copied.
        out = made(parents["untied"], tmp_path, *steps)
        files = weight_files(out)
        assert len(files) > 12
        assert files == sorted(out.glob("*.safetensors"))
        assert files[0].name == f"{name}-00001-of-{len(files):05d}.safetensors"
        assert [file.name for file in out.glob("*.index.json")] == [f"{name}.safetensors.index.json"]
        placed = json.loads((out / f"{name}.safetensors.index.json").read_text())["weight_map"]
        assert placed.keys() == read_checkpoint(out).tensors.keys()
        apart = {
            stem
            for stem, parts in folders.packed_stems(placed).items()
            if len({placed[f"{stem}.{part}"] for part in parts}) > 1
        }
        assert apart
        assert torch.equal(logits(load_model(out, "cpu")), expected)


@pytest.mark.parametrize("own", [True, False])
def test_missing_weights_are_an_error(parents: dict[str, Path], tmp_path: Path, own: bool) -> None:
    out = made(parents["tied"], tmp_path, EIGHT if own else RTN(bits=4))
    (file,) = weight_files(out)
    stored = load_file(file)
    del stored["model.layers.1.input_layernorm.weight"]
    save_file(stored, file, metadata={"format": "pt"})
    with pytest.raises(ModelFilesError, match=r"lacks model\.layers\.1\.input_layernorm\.weight"):
        load_model(out, "cpu")


def test_weights_that_the_architecture_does_not_have_are_an_error(parents: dict[str, Path], tmp_path: Path) -> None:
    out = made(parents["tied"], tmp_path, EIGHT)
    (file,) = weight_files(out)
    save_file({**load_file(file), "model.more.weight": torch.ones(2)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelFilesError, match=r"holds more than its architecture has: model\.more\.weight"):
        load_model(out, "cpu")


def test_loading_draws_no_progress_bars(
    parents: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for steps in (PARENTS["packed"], (EIGHT,)):
        logits(load_model(made(parents["tied"], tmp_path, *steps), "cpu"))
    shown = capfd.readouterr()
    assert "it/s" not in shown.err
    assert "%" not in shown.out + shown.err


def test_the_readme_says_what_loads_the_folder_and_is_no_part_of_its_bytes(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    said = {}
    for kind, steps in (
        PARENTS | {"embeddings": (Magnitude(), EIGHT), "int8 and embeddings": (*PARENTS["int8"], EIGHT)}
    ).items():
        out = made(parents["tied"], tmp_path, *steps)
        before = bytes_on_disk(out)
        write_readme(out, "example/model", steps)
        said[kind] = (out / "README.md").read_text()
        assert bytes_on_disk(out) == before
        assert out / "README.md" not in needed_files(out)
    assert "1. `magnitude(sparsity=0.5, pattern=unstructured)`\n2. `rtn(bits=4, " in said["sparse and packed"]
    by_transformers = {kind for kind, text in said.items() if "transformers loads this folder by itself" in text}
    assert by_transformers == {"dense", "packed", "fp8", "fp8 with activations", "w8a8", "int8", "nf4"}
    assert "`transformers` and `bitsandbytes` must be installed" in said["nf4"]
    assert "`transformers` and `compressed-tensors` must be installed" in said["packed"]
    assert "sparse weights, stored as a mask and the weights that stay and quantized" in said["embeddings"].replace(
        "\n", " "
    )
    assert "`bitsandbytes`, `compressed-tensors` must be installed as well" in said["int8 and embeddings"]
    assert "from mtpareto import load_model" in said["sparse"]
    assert all("mtpareto translate --model FOLDER --source en" in text for text in said.values())
