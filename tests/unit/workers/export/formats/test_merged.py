"""Merged weights are the kept model's, decoded and rounded once, and plain transformers loads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import RTN, W8A8, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.unit.orchestrator.commands.exporting.test_export import adapted
from tests.unit.workers.export.formats.test_gguf_file import IDS, made
from workers.checkpoints.model_files import bytes_on_disk
from workers.export.formats.merged import write_merged
from workers.loading.load import load_model
from workers.stored_forms.checkpoint import dense_tensors

FORMS: dict[str, tuple[Step, ...]] = {
    "packed, with embeddings": (RTN(bits=3, symmetric=False), QuantizeEmbeddings(bits=4)),
    "sparse": (Magnitude(sparsity=0.5),),
    "inputs quantized": (W8A8(),),
    "rows of one scale": (RTN(bits=8, group_size=-1),),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_the_kept_ones_rounded_once(form: str, tmp_path: Path) -> None:
    kept = made(tmp_path, *FORMS[form])
    (out := tmp_path / "out").mkdir()
    notes = write_merged(kept, out)
    assert [note for note in notes if "inputs quantized too" in note] == (notes if "inputs" in form else [])
    written = load_file(out / "model.safetensors")
    ours = {name: tensor.bfloat16() for name, tensor, _ in dense_tensors(kept, torch.device("cpu"))}
    assert written.keys() == ours.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in ours.items())
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    _, found = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert bytes_on_disk(out) > 10**7


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    kept = adapted(made(tmp_path, RTN(bits=4)), tmp_path / "adapted")
    (out := tmp_path / "out").mkdir()
    assert write_merged(kept, out) == []
    assert not (out / "adapter").exists()
    with torch.inference_mode():
        ours, theirs = (load_model(one, "cpu")(IDS).logits for one in (kept, out))
    # A merged weight is rounded to bfloat16's 8 bits once more.
    assert (ours - theirs).abs().max() < 0.02 * ours.abs().max()
    with torch.inference_mode():
        without = load_model(tmp_path / "0", "cpu")(IDS).logits
    assert (without - theirs).abs().max() > 2 * (ours - theirs).abs().max()


def test_bitsandbytes_is_decoded_by_its_library(tmp_path: Path) -> None:
    kept = made(tmp_path, BitsAndBytes(format="nf4"))
    (out := tmp_path / "out").mkdir()
    (note,) = write_merged(kept, out)
    assert "by the library's own products" in note
    with torch.inference_mode():
        ours, theirs = (load_model(one, "cpu")(IDS).logits for one in (kept, out))
    assert (ours - theirs).abs().max() < 0.03 * ours.abs().max()


def test_weights_of_another_class_are_refused(tmp_path: Path) -> None:
    kept = made(tmp_path, RTN(bits=8))
    config = json.loads((kept / "config.json").read_text())
    (kept / "config.json").write_text(json.dumps({**config, "intermediate_size": 512}))
    (out := tmp_path / "out").mkdir()
    with pytest.raises(StudyError, match=r"LlamaForCausalLM has other weights .*layers\.0\.mlp"):
        write_merged(kept, out)
