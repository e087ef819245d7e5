"""A kept model as dense bfloat16 weights that plain transformers loads: packed weights decoded, an adapter merged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import is_leftover
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.model_files import read_config, read_header, weight_files
from workers.export.formats.grids import KeptWeights
from workers.export.stored_weights import runs_quantized, state
from workers.stored_forms.checkpoint import copy_small_files, write_config, write_tensors
from workers.stored_forms.integer_grid import QuantizedWeight

NAMED = 3


def write_merged(folder: Path, out: Path, trust_remote_code: bool = False) -> list[str]:
    """Write the model into the folder `out`; returns what a person has to know of it.

    Raises StudyError where transformers' class of it has other weights, and where a weight does not come back as it is.
    """
    config = read_config(folder)
    quantization = config.get("quantization_config", {})
    by_library = quantization.get("quant_method") == "bitsandbytes"
    copy_small_files(folder, out)
    write_config(out, {key: value for key, value in config.items() if key not in LEFT_OUT} | {"dtype": "bfloat16"})
    write_tensors(out, _decoded_by_library(folder, trust_remote_code) if by_library else _decoded(folder))
    _refuse_other_class(out, trust_remote_code)
    if not by_library and not has_adapter(folder):
        _refuse_changed(folder, out)
    if not runs_quantized(quantization):
        return []
    how = "by the library's own products" if by_library else "with its layers' inputs quantized too"
    return [f"the scores are of the model as it was kept, {how}; here its layers are plain products"]


# `torch_dtype` is what `dtype` was called before transformers 5.
LEFT_OUT = ("quantization_config", "compression_config", "torch_dtype")


def _decoded(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in state(folder, torch.bfloat16, torch.device("cpu")):
        if not is_leftover(name):
            yield name, tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


def _decoded_by_library(folder: Path, trust_remote_code: bool) -> Iterator[tuple[str, torch.Tensor]]:
    from workers.loading.dequantized import with_dense_layers
    from workers.loading.load import load_model

    model = with_dense_layers(load_model(folder, "cpu", trust_remote_code), {})
    tied = bool(model.config.tie_word_embeddings)
    for name, tensor in model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            yield name, tensor.to(torch.bfloat16)


def _refuse_other_class(out: Path, trust_remote_code: bool) -> None:
    """Raise StudyError where transformers' class of the model has other weights, or of other shapes."""
    from workers.loading.spread import skeleton

    model = skeleton(out, torch.bfloat16, trust_remote_code)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    there = {name: tuple(entry["shape"]) for file in weight_files(out) for name, entry in read_header(file)[0].items()}
    if getattr(model.config, "tie_word_embeddings", False):
        expected.pop("lm_head.weight", None)
        there.pop("lm_head.weight", None)
    wrong = sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))
    if wrong:
        raise StudyError(
            f"transformers' {type(model).__name__} has other weights than this model, or of other shapes: "
            f"{', '.join(wrong[:NAMED])}; it can't go out as merged weights"
        )


def _refuse_changed(folder: Path, out: Path) -> None:
    """Raise StudyError where what is written is not the kept model's own decoding, rounded once."""
    kept, written = KeptWeights(folder), KeptWeights(out)
    for name in written.forms():
        weight = kept.read(name)
        values = weight.dequantized() if isinstance(weight, QuantizedWeight) else weight
        if not torch.equal(values.to(torch.bfloat16), written.read(name).to(torch.bfloat16)):  # type: ignore[union-attr]
            raise StudyError(f"{name} does not come back as it was written; try again, on another disk")
