"""A kept model in compressed-tensors' plain form as vLLM takes it: layers on 4 or 8 bits, all else dense.

What vLLM asks for: packed layers have 4 or 8 bits and scales for 32, 64, 128 or all columns; query, key and value, and
gate and up, which it runs as one, are alike (https://docs.vllm.ai/en/latest/features/quantization/ and its
compressed_tensors_wNa16.py). A grid of fewer bits lies on one of 4 or 8, and a scale of many columns may stand for
parts of them: neither changes a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import is_embedding, is_leftover
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.model_files import read_checkpoint
from workers.export.formats.grids import KeptWeights, WeightForm
from workers.stored_forms.checkpoint import copy_small_files, packed_stems, stored_tensors, write_config, write_tensors
from workers.stored_forms.integer_grid import Grid, QuantizedWeight
from workers.stored_forms.packing import pack
from workers.stored_forms.quantization_config import WeightScheme, quantization_config, without_embeddings

BITS = (4, 8)
GROUPS = (128, 64, 32)
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
METHOD = "compressed-tensors"
# Of values with a scale, which vLLM takes as they are stored.
EIGHT_BITS = ("F8_E4M3", "I8")


def write_packed(folder: Path, out: Path) -> list[str]:
    """Write the model into the folder `out`; returns what a person has to know of it.

    Raises StudyError for a model that can't be written so, with the reason and what would do.
    """
    weights = KeptWeights(folder)
    quantization = weights.config.get("quantization_config", {})
    if quantization.get("quant_method", METHOD) != METHOD:
        raise StudyError(
            f"{quantization['quant_method']} has a form of its own, for which vLLM has a loader of its own: export "
            "without --format, or take --format merged-bf16"
        )
    if has_adapter(folder):
        raise StudyError(
            "it keeps an adapter apart, and with it in them weights leave their grid; --format merged-bf16 takes it"
        )
    forms = {name: form for name, form in weights.forms().items() if not is_leftover(name)}
    as_stored = any(form.type in EIGHT_BITS for form in forms.values())
    layers = {name: form for name, form in forms.items() if form.bits and not is_embedding(name)}
    if not layers and not as_stored:
        raise StudyError("no layer of it lies on a grid, so there is nothing to pack; --format merged-bf16 takes it")
    copy_small_files(folder, out)
    if as_stored:
        write_config(out, {**weights.config, "quantization_config": without_embeddings(quantization)})
        write_tensors(out, _as_stored(folder, weights))
    else:
        schemes = packed_schemes(layers)
        _refuse_half_fused(forms, schemes)
        others = [name for name, form in forms.items() if len(form.shape) == 2 and name not in schemes]
        by_stem = {name.removesuffix(".weight"): scheme for name, scheme in schemes.items()}
        config = quantization_config(by_stem, ["lm_head", *(_stem(name) for name in others if not is_embedding(name))])
        write_config(out, {**weights.config, "quantization_config": config})
        write_tensors(out, _packed(weights, forms, schemes))
        _refuse_changed(weights, KeptWeights(out), schemes)
    return _told(forms, layers, {} if as_stored else schemes)


def packed_schemes(layers: Mapping[str, WeightForm]) -> dict[str, WeightScheme]:
    """Weight's name -> the least scheme of vLLM's that holds its grid, alike for weights that it runs as one.

    Raises StudyError, with what would do, where there is none.
    """
    found: dict[str, WeightScheme] = {}
    for name in layers:
        together = [layers[one] for one in _siblings(name) if one in layers]
        bits = next(most for most in BITS if all((one.bits or 0) <= most for one in together))
        found[name] = WeightScheme(bits, _group_size(name, together), all(one.symmetric for one in together))
    return found


def _group_size(name: str, together: list[WeightForm]) -> int:
    """Columns a scale; -1 for all of them."""
    if all(one.group_size == one.shape[1] for one in together):
        return -1
    for size in GROUPS:
        if all(one.group_size % size == 0 for one in together):
            return size
    sizes = sorted({one.group_size for one in together})
    raise StudyError(
        f"{name} has a group size of {' or '.join(map(str, sizes))}, and vLLM takes 32, 64, 128 or a scale for each "
        "row: one of these would do"
    )


def _siblings(name: str) -> list[str]:
    """The names of the weights that vLLM runs as one with this one, itself among them."""
    for names in FUSED:
        for own in names:
            if f".{own}." in name:
                return [name.replace(f".{own}.", f".{other}.") for other in names]
    return [name]


def _refuse_half_fused(forms: Mapping[str, WeightForm], schemes: Mapping[str, WeightScheme]) -> None:
    for name in schemes:
        for other in _siblings(name):
            if other in forms and other not in schemes:
                raise StudyError(
                    f"{name} is quantized and {other} is not, and vLLM runs the two as one; --format merged-bf16 takes "
                    "the model"
                )


def _stem(name: str) -> str:
    return name.removesuffix(".weight")


def _packed(
    weights: KeptWeights, forms: Mapping[str, WeightForm], schemes: Mapping[str, WeightScheme]
) -> Iterator[tuple[str, torch.Tensor]]:
    for name in forms:
        weight = weights.read(name)
        if name in schemes and isinstance(weight, QuantizedWeight):
            yield from pack(_stem(name), laid_on(weight, schemes[name]))
        else:
            yield name, _dense(weight)


def _dense(weight: QuantizedWeight | torch.Tensor) -> torch.Tensor:
    return weight.dequantized().to(torch.bfloat16) if isinstance(weight, QuantizedWeight) else weight


def laid_on(weight: QuantizedWeight, scheme: WeightScheme) -> QuantizedWeight:
    """The same weight on a grid that holds its own; a weight that a mask leaves out is its zero point."""
    scale, zero = weight.grid.scale, weight.grid.zero_point
    columns = weight.integers.shape[1]
    size = columns if scheme.group_size == -1 else scheme.group_size
    repeats = columns // size // scale.shape[1]
    scale = scale.repeat_interleave(repeats, 1)
    if zero is None and not scheme.symmetric:
        zero = torch.zeros_like(scale, dtype=torch.int8)
    elif zero is not None:
        zero = zero.repeat_interleave(repeats, 1)
    integers = weight.integers
    if weight.mask is not None:
        left_out = torch.zeros_like(integers) if zero is None else zero.repeat_interleave(size, 1).to(integers.dtype)
        integers = torch.where(weight.mask, integers, left_out)
    return replace(weight, integers=integers, grid=Grid(scale, zero), bits=scheme.bits, mask=None)


def _as_stored(folder: Path, weights: KeptWeights) -> Iterator[tuple[str, torch.Tensor]]:
    """Layers as they are stored, embeddings decoded."""
    stems = [stem for stem in packed_stems(read_checkpoint(folder).tensors) if is_embedding(f"{stem}.weight")]
    for name, tensor in stored_tensors(folder, torch.device("cpu")):
        if not name.startswith(tuple(f"{stem}." for stem in stems)):
            yield name, tensor
    for stem in stems:
        yield f"{stem}.weight", _dense(weights.read(f"{stem}.weight"))


def _refuse_changed(kept: KeptWeights, written: KeptWeights, schemes: Mapping[str, WeightScheme]) -> None:
    """Raise StudyError where a weight does not come back as the kept model's own."""
    for name in schemes:
        ours, theirs = kept.read(name), written.read(name)
        if not (
            isinstance(ours, QuantizedWeight)
            and isinstance(theirs, QuantizedWeight)
            and torch.equal(ours.dequantized(), theirs.dequantized())
        ):
            raise StudyError(f"{name} does not come back as it was written; try again, on another disk")


def _told(
    forms: Mapping[str, WeightForm], layers: Mapping[str, WeightForm], schemes: Mapping[str, WeightScheme]
) -> list[str]:
    """Where the folder takes more bytes than the kept model's."""
    notes = []
    wider = sorted({(form.bits or 0, schemes[name].bits) for name, form in layers.items() if name in schemes})
    notes += [
        f"weights of {bits} bits lie on a grid of {most}, for vLLM takes 4 and 8" for bits, most in wider if bits < most
    ]
    if any(form.bits for name, form in forms.items() if is_embedding(name)):
        notes.append("embeddings are decoded to bfloat16, for vLLM takes no packed ones")
    return notes
