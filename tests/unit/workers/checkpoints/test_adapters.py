"""Adapters on every stored form: they begin as nothing, are stored beside the parent's own files as peft reads them,
and are merged when the folder is scored as peft would merge them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.errors import CandidateError, ModelFilesError
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.trainers import Recover
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import logits
from tests.support.trained_parents import FORMS, SHAPE, empty, made, trained_a_little
from workers.checkpoints.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, has_adapter, read_adapter
from workers.checkpoints.model_files import bytes_on_disk, needed_files, read_checkpoint
from workers.evaluation.candidate_folder import compress_candidate
from workers.loading.load import load_model
from workers.loading.readme import write_readme
from workers.packed.load import NotPackedError, load_packed
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.artefact_store import ArtefactStore
from workers.training.model_forms.trainable import adapter_form
from workers.training.model_forms.writing import plain_model, write_trained

CPU = torch.device("cpu")
LORA = Recover(rank=4, alpha=8.0, dropout=0.0)
DORA = replace(LORA, adapter="dora")
# bitsandbytes multiplies in bfloat16 or int8, so that its products are not those of the decoded weights.
LIBRARYS = {"nf4": 0.2, "int8": 0.2}
CASES = [(form, LORA) for form in FORMS] + [("dense", DORA), ("packed", DORA), ("sparse and packed", DORA)]
every_case = pytest.mark.parametrize(
    ("form", "step"), CASES, ids=lambda part: part if isinstance(part, str) else part.adapter
)


@pytest.fixture(scope="module")
def parents(save_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = save_llama(**SHAPE)
    scratch = tmp_path_factory.mktemp("parents")
    return {form: made(base, scratch, *steps) for form, steps in FORMS.items()}


def trained(parent: Path, step: Recover) -> Any:
    form = adapter_form(parent, step, CPU, 0)
    trained_a_little(form.model)
    return form


@pytest.fixture(scope="module")
def apart(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed parent with a LoRA kept apart."""
    out = tmp_path_factory.mktemp("apart")
    write_trained(trained(parents["packed"], LORA), out)
    return out


@every_case
def test_an_adapter_begins_as_nothing_and_is_scored_as_it_was_trained(
    parents: dict[str, Path], tmp_path: Path, form: str, step: Recover
) -> None:
    parent = parents[form]
    before = logits(load_model(parent, "cpu"))
    model = adapter_form(parent, step, CPU, 0)
    assert {name.rpartition(".lora_")[1] for name, one in model.model.named_parameters() if one.requires_grad} == {
        ".lora_"
    }
    assert all(one.dtype == torch.float32 for one in model.model.parameters() if one.requires_grad)
    close = LIBRARYS.get(form, 0.0)
    torch.testing.assert_close(logits(model.model), before, rtol=0, atol=close)
    trained_a_little(model.model)

    out = empty(tmp_path)
    written = write_trained(model, out)
    assert written.changed == written.targeted
    assert written.targeted == sum(low.up.shape[0] * low.down.shape[1] for low in read_adapter(out).values())
    scored = logits(load_model(out, "cpu"))
    assert (scored - before).abs().max() > 1.0
    # Rounding A, B and DoRA's magnitudes to bfloat16 is all that lies between.
    torch.testing.assert_close(scored, logits(model.model), rtol=0, atol=0.3 if close or step is DORA else 0.1)
    assert torch.equal(scored, logits(plain_model(model, CPU, torch.float32)))


@every_case
def test_what_is_kept_apart_lies_beside_the_parents_own_files(
    parents: dict[str, Path], tmp_path: Path, form: str, step: Recover
) -> None:
    model = adapter_form(parents[form], step, CPU, 0)
    write_trained(model, tmp_path)
    before = {file.name: file for file in needed_files(parents[form])}
    after = {file.relative_to(tmp_path).as_posix(): file for file in needed_files(tmp_path)}
    assert after.keys() == {*before, ADAPTER_WEIGHTS, ADAPTER_CONFIG}
    assert all(after[name].read_bytes() == before[name].read_bytes() for name in before)
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    assert all(tensor.dtype == torch.bfloat16 for tensor in load_file(tmp_path / ADAPTER_WEIGHTS).values())
    assert bytes_on_disk(tmp_path) == bytes_on_disk(parents[form]) + sum(
        (tmp_path / name).stat().st_size for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
    )
    base = read_checkpoint(parents["dense"])
    grown = predicted_bytes(base, (*FORMS[form], step)) - predicted_bytes(base, FORMS[form])
    assert grown == pytest.approx(bytes_on_disk(tmp_path) - bytes_on_disk(parents[form]), abs=16)


@pytest.mark.parametrize("step", [LORA, DORA], ids=["lora", "dora"])
@pytest.mark.parametrize("form", ["dense", "packed", "packed with zero points"])
def test_transformers_and_peft_run_the_folder_as_it_is_scored(
    parents: dict[str, Path], tmp_path: Path, form: str, step: Recover
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    write_trained(trained(parents[form], step), tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    # As the folder's README says: packed weights are multiplied out at the first call.
    plain(torch.tensor([[0]]))
    assert torch.equal(logits(plain), logits(load_model(parents[form], "cpu")))
    with_it = PeftModel.from_pretrained(plain, str(tmp_path), subfolder="adapter").eval()
    scored = logits(load_model(tmp_path, "cpu"))
    torch.testing.assert_close(logits(with_it), scored, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(with_it.merge_and_unload()), scored, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [LORA, DORA], ids=["lora", "dora"])
def test_a_merged_adapter_is_in_the_weights_of_the_parents_type(
    parents: dict[str, Path], tmp_path: Path, step: Recover
) -> None:
    model = trained(parents["dense"], replace(step, merged=True))
    written = write_trained(model, tmp_path)
    assert (
        written.changed
        == written.targeted
        == sum(tensor.parameters for tensor in read_checkpoint(parents["dense"]).targets().values())
    )
    assert not has_adapter(tmp_path)
    assert bytes_on_disk(tmp_path) == bytes_on_disk(parents["dense"])
    assert dict(read_checkpoint(tmp_path).tensors) == dict(read_checkpoint(parents["dense"]).tensors)
    by_peft = model.model.merge_and_unload().state_dict()
    stored = load_file(tmp_path / "model.safetensors")
    assert stored
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, by_peft[name].bfloat16(), rtol=8e-3, atol=1e-6)


@pytest.mark.parametrize("form", ["packed", "sparse", "nf4"])
def test_weights_that_are_not_dense_take_no_adapter_in(parents: dict[str, Path], form: str) -> None:
    with pytest.raises(CandidateError, match="keep it apart"):
        adapter_form(parents[form], replace(LORA, merged=True), CPU, 0)


def test_dora_on_int8_layers_is_refused(parents: dict[str, Path]) -> None:
    with pytest.raises(CandidateError, match="use lora"):
        adapter_form(parents["int8"], DORA, CPU, 0)


def test_the_adapters_start_goes_by_the_seed_alone(parents: dict[str, Path]) -> None:
    first, again, other = (
        {stem: low.down for stem, low in adapter_form(parents["dense"], LORA, CPU, seed).low_rank().items()}
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[stem], again[stem]) for stem in first)
    assert not any(torch.equal(first[stem], other[stem]) for stem in first)


def test_packed_weights_stay_packed_under_an_adapter(parents: dict[str, Path]) -> None:
    model = adapter_form(parents["packed"], LORA, CPU, 0)
    frozen = [one for name, one in model.model.named_parameters() if "lora_" not in name]
    assert not [
        one
        for one in frozen
        if one.ndim == 2 and one.shape[0] != read_checkpoint(parents["packed"]).config["vocab_size"]
    ]


def test_an_artefact_holds_its_adapter(apart: Path, tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)

    def build(out: Path) -> dict[str, Any]:
        (out / "adapter").mkdir()
        for file in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
            (out / file).write_bytes((apart / file).read_bytes())
        return {}

    made_ = store.get("key", build)
    assert (made_.path / ADAPTER_WEIGHTS).is_file()
    with (made_.path / ADAPTER_CONFIG).open("a") as stream:
        stream.write(" ")
    assert store.find("key") is None


def test_the_stores_own_files_get_a_second_name(parents: dict[str, Path], tmp_path: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        made_ = made(parents["dense"], tmp_path, RTN(bits=4))
        for file in made_.iterdir():
            (out / file.name).write_bytes(file.read_bytes())
        return {}

    parent = ArtefactStore(tmp_path / "store").get("parent", build).path
    out = empty(tmp_path)
    write_trained(adapter_form(parent, LORA, CPU, 0), out)
    assert (out / "model.safetensors").samefile(parent / "model.safetensors")
    assert not (out / "config.json").samefile(parent / "config.json")


def test_a_folder_with_an_adapter_is_not_run_packed_nor_compressed(apart: Path, tmp_path: Path) -> None:
    with pytest.raises(NotPackedError, match="adapter is kept apart"):
        load_packed(apart, CPU)
    candidate = Candidate(BaseModel(str(apart), "sha256:" + "0" * 64), (RTN(bits=4),))
    plan = EvaluationPlan({}, None, ("chrf",), Any, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(CandidateError, match="merge it with peft first"):
        compress_candidate(candidate, apart, Any, plan)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_rslora": True}, "use_rslora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias 'all'"),
        ({"use_dora": True}, "lacks model.layers.0.mlp.down_proj.lora_magnitude_vector"),
    ],
)
def test_other_adapters_are_refused(apart: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / ADAPTER_WEIGHTS).write_bytes((apart / ADAPTER_WEIGHTS).read_bytes())
    record = json.loads((apart / ADAPTER_CONFIG).read_text()) | change
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(record))
    with pytest.raises(ModelFilesError, match=said):
        read_adapter(tmp_path)
    (tmp_path / ADAPTER_CONFIG).write_text("{")
    with pytest.raises(ModelFilesError, match="can't be read as JSON"):
        read_adapter(tmp_path)


def test_an_adapter_of_another_model_is_an_error(apart: Path, tmp_path: Path) -> None:
    for file in needed_files(apart):
        target = tmp_path / file.relative_to(apart)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    renamed = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(ModelFilesError, match=r"an adapter for model\.layers\.7"):
        load_model(tmp_path, "cpu")


@pytest.mark.parametrize("form", ["dense", "packed", "sparse"])
def test_the_readme_says_how_the_adapter_is_loaded(parents: dict[str, Path], tmp_path: Path, form: str) -> None:
    write_trained(adapter_form(parents[form], LORA, CPU, 0), tmp_path)
    write_readme(tmp_path, "example/model", (*FORMS[form], LORA))
    said = (tmp_path / "README.md").read_text()
    if form == "sparse":
        assert "merges the adapter in `adapter/` into them" in said
        assert "PeftModel" not in said
    else:
        assert 'PeftModel.from_pretrained(model, "FOLDER", subfolder="adapter")' in said
        assert ("multiplies the packed weights out" in said) is (form == "packed")
