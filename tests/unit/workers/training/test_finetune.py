"""Training of all weights: each stored form starts as it is scored, ends in as many bytes, keeps its grid or zeros."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError
from search_spaces.methods.quantizers import FP8, W8A8, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune
from tests.support.dense_reference import logits
from tests.support.trained_parents import FORMS, SHAPE, empty, made, trained_a_little, training_context
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config, weight_files
from workers.evaluation.methods import compress
from workers.loading.load import load_model
from workers.stored_forms.packing import mask_of
from workers.training.model_forms.trainable import finetune_form
from workers.training.model_forms.writing import plain_model, write_trained

CPU = torch.device("cpu")
STEP = Finetune(loss="references", tokens=600, batch=8, rate=5e-3, warm_up=1)
TRAINED = ["dense", "packed", "packed with zero points", "sparse", "sparse and packed", "mixed widths", "embeddings"]
MORE = {
    "mixed widths": (MixedWidths(bits=3.5, group_size=32, score="error"),),
    "embeddings": (*FORMS["packed"], QuantizeEmbeddings(bits=8)),
}


pytestmark = pytest.mark.usefixtures("short_translations")


@pytest.fixture(scope="module")
def parents(save_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = save_llama(**SHAPE)
    scratch = tmp_path_factory.mktemp("parents")
    context = training_context(scratch, base)
    pairs = [segment for _ in range(8) for segment in _pairs()]
    context = replace(context, calibration=pairs)
    return {form: made(base, scratch, *steps, context=context) for form, steps in (FORMS | MORE).items()}


def _pairs() -> list[Any]:
    from workers.reading.segments import Segment

    return [
        Segment(str(number), "en-de", f"a dog {number} runs", (f"ein Hund {number}",), "d", "") for number in range(40)
    ]


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in weight_files(folder) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("form", TRAINED)
def test_each_form_starts_as_the_parent_and_ends_as_it_was_trained(
    parents: dict[str, Path], tmp_path: Path, form: str
) -> None:
    parent = parents[form]
    before = logits(load_model(parent, "cpu"))
    trained = finetune_form(parent, CPU)
    assert torch.equal(logits(trained.model), before)
    assert torch.equal(logits(plain_model(trained, CPU, torch.float32)), before)
    trained_a_little(trained.model, steps=10)

    written = write_trained(trained, tmp_path)
    table = read_checkpoint(parents["dense"])
    frozen = sum(one.parameters for name, one in table.tensors.items() if "embed" in name or "lm_head" in name)
    matrices = sum(one.parameters for one in table.tensors.values() if len(one.shape) == 2)
    assert written.targeted == written.changed == matrices - (frozen if form == "embeddings" else 0)
    assert bytes_on_disk(tmp_path) == bytes_on_disk(parent)
    assert read_config(tmp_path) == read_config(parent)
    assert dict(read_checkpoint(tmp_path).tensors) == dict(read_checkpoint(parent).tensors)
    scored = logits(load_model(tmp_path, "cpu"))
    assert (scored - before).abs().max() > 1.0
    # Dense and kept weights, norms and biases are rounded to bfloat16 when they are stored.
    torch.testing.assert_close(scored, logits(trained.model), rtol=0, atol=0.3)
    assert torch.equal(scored, logits(plain_model(trained, CPU, torch.float32)))


@pytest.mark.parametrize("form", ["packed", "packed with zero points", "mixed widths"])
def test_the_grids_zero_points_and_shapes_stay(parents: dict[str, Path], tmp_path: Path, form: str) -> None:
    trained = finetune_form(parents[form], CPU)
    write_trained(trained_and_back(trained), tmp_path)
    before, after = stored(parents[form]), stored(tmp_path)
    for name, tensor in before.items():
        if name.endswith(("weight_shape", "weight_zero_point")):
            assert torch.equal(tensor, after[name])
        elif name.endswith("weight_packed"):
            assert not torch.equal(tensor, after[name])


def trained_and_back(trained: Any) -> Any:
    trained_a_little(trained.model, steps=10)
    return trained


@pytest.mark.parametrize("form", ["sparse", "sparse and packed"])
def test_zeros_stay_zeros(parents: dict[str, Path], tmp_path: Path, form: str) -> None:
    write_trained(trained_and_back(finetune_form(parents[form], CPU)), tmp_path)
    before, after = stored(parents[form]), stored(tmp_path)
    masks = [name for name in before if name.endswith("weight_mask")]
    assert masks
    assert all(torch.equal(before[name], after[name]) for name in masks)
    model = load_model(tmp_path, "cpu")
    for name in masks:
        weight = model.get_submodule(name.removesuffix(".weight_mask")).weight
        assert not bool(weight[~mask_of(before[name], weight.shape)].any())


@pytest.mark.parametrize("form", ["nf4", "int8", "fp8", "w8a8"])
def test_other_forms_are_refused(parents: dict[str, Path], tmp_path: Path, form: str) -> None:
    others: dict[str, Step] = {"fp8": FP8(), "w8a8": W8A8()}
    parent = parents[form] if form in parents else made(parents["dense"], tmp_path, others[form])
    with pytest.raises(CandidateError, match="which is not trained"):
        finetune_form(parent, CPU)


def test_quantization_aware_training_helps_more_than_the_grid_hurt(parents: dict[str, Path]) -> None:
    """The loss on what is trained falls below that of the dense parent, though every weight is a grid's."""
    from tests.support.dense_reference import IDS

    def loss(model: Any) -> float:
        scores = logits(model)[:, :-1].flatten(0, 1)
        return float(torch.nn.functional.cross_entropy(scores, IDS[:, 1:].flatten()))

    trained = finetune_form(parents["packed with zero points"], CPU)
    began = loss(load_model(parents["dense"], "cpu"))
    trained_a_little(trained.model, steps=8)
    assert loss(plain_model(trained, CPU, torch.float32)) < began / 2


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_it_is_trained_on_the_studys_pairs(parents: dict[str, Path], tmp_path: Path, form: str) -> None:
    out = empty(tmp_path)
    step = replace(STEP, loss="forward_kl", reference_share=0.5)
    report = compress(parents[form], out, step, training_context(tmp_path, parents["dense"]))
    assert report.changed == report.targeted
    assert "validation chrF" in report.notes[-1]
    losses = [point.loss for point in report.curve if point.loss is not None]
    assert losses[-1] < losses[0]
