"""Writing a checkpoint whose layers are narrower: rows of some weights go, others are replaced, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from search_spaces.errors import CandidateError
from search_spaces.sizes.tensor_table import layer_of
from workers.checkpoints.model_files import read_checkpoint, read_header, weight_files
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import copy_small_files, stored_tensors, write_config, write_tensors


@dataclass(slots=True)
class Cut:
    """What becomes of a layer. rows: stem within the layer, such as `mlp.gate_proj` -> the rows of its weight and bias
    that stay. replaced: tensor name within the layer -> what takes its place. note: of the layer, for the report."""

    rows: Mapping[str, torch.Tensor]
    replaced: dict[str, torch.Tensor]
    note: str = ""


@dataclass(slots=True)
class _Tally:
    targeted: int = 0
    notes: list[str] = field(default_factory=list)


def write_narrowed(
    parent: Path, out: Path, config: Mapping[str, Any], cut: Callable[[str], Cut], context: CompressionContext
) -> Report:
    """Write the parent with each layer cut as `cut(prefix)` says, and this config.json.

    cut: is called once a layer, with what stands before its tensors' names (`model.layers.0.`). The report counts the
    parameters of the tensors that shrank, as they were.
    """
    tally = _Tally()
    write_tensors(out, _narrowed(parent, cut, context.device, tally))
    copy_small_files(parent, out)
    write_config(out, dict(config))
    return Report(tally.targeted, tally.targeted, tuple(tally.notes))


def stored_tensor(folder: Path, name: str, device: torch.device) -> torch.Tensor:
    """One tensor of the checkpoint as it is stored; raises CandidateError when there is none of that name."""
    for file in weight_files(folder):
        if name in read_header(file)[0]:
            with safe_open(file, framework="pt", device=str(device)) as stream:
                return stream.get_tensor(name)
    raise CandidateError(f"the model has no tensor {name}, as Llama, Mistral, Gemma and Qwen do")


def layers_of(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Each decoder layer's tensors: prefix -> name within the layer -> shape."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in read_checkpoint(folder).tensors.items():
        if layer_of(name) is not None:
            prefix = prefix_of(name)
            layers.setdefault(prefix, {})[name.removeprefix(prefix)] = tensor.shape
    return layers


def prefix_of(name: str) -> str:
    """What stands before a tensor's name within its layer: `model.layers.0.` of `model.layers.0.mlp.up_proj.weight`."""
    number = f".{layer_of(name)}."
    return name[: name.index(number) + len(number)]


def _narrowed(
    parent: Path, cut: Callable[[str], Cut], device: torch.device, tally: _Tally
) -> Iterator[tuple[str, torch.Tensor]]:
    cuts: dict[str, Cut] = {}
    for name, tensor in stored_tensors(parent, device):
        if layer_of(name) is None:
            yield name, tensor
            continue
        prefix = prefix_of(name)
        if prefix not in cuts:
            # The layers' tensors lie together but for where a shard ends, so few replacements wait at a time.
            cuts[prefix] = cut(prefix)
            tally.notes += [cuts[prefix].note] if cuts[prefix].note else []
        yield name, _cut(cuts[prefix], name.removeprefix(prefix), tensor, tally)


def _cut(cut: Cut, name: str, tensor: torch.Tensor, tally: _Tally) -> torch.Tensor:
    rows = cut.rows.get(name.removesuffix(".weight").removesuffix(".bias"))
    if name in cut.replaced:
        found = cut.replaced.pop(name).to(tensor.dtype)
    elif rows is not None:
        found = tensor[rows]
    else:
        return tensor
    tally.targeted += tensor.numel()
    return found
