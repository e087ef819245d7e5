"""From the form that was trained back into a folder like its parent's, and into the plain model that is scored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workers.checkpoints.adapters import write_adapter
from workers.checkpoints.model_files import WEIGHTS_INDEXES, read_checkpoint, weight_files
from workers.checkpoints.tensor_files import FLOATS
from workers.loading.custom_format import is_own
from workers.loading.dequantized import with_dense_layers
from workers.loading.load import is_bitsandbytes, load_model
from workers.packed.load import fill_model
from workers.runtime.artefact_store import MANIFEST
from workers.stored_forms.checkpoint import OWN, PLAIN, copy_small_files, stored_tensors, write_tensors
from workers.training.model_forms.fake_quantization import StoredLinear
from workers.training.model_forms.trainable import Trainable


@dataclass(frozen=True, slots=True)
class Written:
    """targeted, changed: parameters of the weight matrices that took part in training, and of those whose stored form
    is another than the parent's."""

    targeted: int
    changed: int


def write_trained(trained: Trainable, out: Path) -> Written:
    """Write what was trained to the empty folder: an adapter beside the parent's own files, or the parent's tensors
    with the trained ones in their place, of the same names, shapes and types."""
    return _write_apart(trained, out) if trained.is_apart else _write_like(trained, out)


@torch.no_grad()
def plain_model(trained: Trainable, device: torch.device, dtype: torch.dtype) -> Any:
    """The model as it stands and would be scored: dense, of this type, rounded as it would be stored, adapters merged,
    in eval mode on the device.

    It takes the memory of the dense model beside the one that is trained.
    """
    if is_bitsandbytes(trained.parent):
        model = load_model(trained.parent, str(device), trained.trust_remote_code)
        return with_dense_layers(model, trained.low_rank()).eval()
    return fill_model(
        trained.parent,
        _weights(trained),
        make=None,
        device=device,
        dtype=dtype,
        trust_remote_code=trained.trust_remote_code,
    )


def _weights(trained: Trainable) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight, dense and with its adapter in it, under the name transformers knows; of a tied head, none. What is
    stored in a float type is rounded to it."""
    adapters = trained.low_rank()
    stored = {} if trained.is_apart else read_checkpoint(trained.parent).tensors
    tied: set[int] = set()
    for stem, module in trained.modules().items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter):
            if id(weight) in tied:
                continue
            tied.add(id(weight))
        for part in ("weight", "bias"):
            if not isinstance(tensor := getattr(module, part, None), torch.Tensor):
                continue
            tensor = tensor.detach()
            if part == "weight" and stem in adapters:
                tensor = adapters[stem].merged(tensor)
            name = f"{stem}.{part}"
            # A sparse weight's values are stored without its zeros.
            kept = stored.get(name) or stored.get(f"{name}_values")
            yield name, tensor.to(FLOATS[kept.dtype]) if kept is not None and kept.dtype in FLOATS else tensor


def _write_apart(trained: Trainable, out: Path) -> Written:
    assert trained.adapter is not None
    own = (trained.parent / MANIFEST).is_file()
    copy_small_files(trained.parent, out)
    indexes = [trained.parent / name for name in WEIGHTS_INDEXES if (trained.parent / name).is_file()]
    for file in (*weight_files(trained.parent), *indexes):
        _linked(file, out / file.name) if own else shutil.copyfile(file, out / file.name)
    adapters = trained.low_rank()
    write_adapter(out, adapters, trained.adapter)
    sizes = {stem: low.up.shape[0] * low.down.shape[1] for stem, low in adapters.items()}
    return Written(sum(sizes.values()), sum(sizes[stem] for stem, low in adapters.items() if bool(low.up.any())))


def _linked(file: Path, target: Path) -> None:
    """A second name for a file of the store, which never changes; a copy on file systems that have none."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _write_like(trained: Trainable, out: Path) -> Written:
    replaced = _replacement(trained)
    targeted: dict[str, int] = {}
    changed: set[str] = set()

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in stored_tensors(trained.parent, torch.device("cpu")):
            found, count = replaced(name, tensor)
            if found.shape != tensor.shape or found.dtype != tensor.dtype:
                raise RuntimeError(f"{name}, {tensor.dtype} {tuple(tensor.shape)}, became {found.dtype} {found.shape}")
            found = found.cpu()
            if count:
                stem = name.rpartition(".")[0]
                targeted[stem] = count
                if not torch.equal(found, tensor):
                    changed.add(stem)
            yield name, found

    write_tensors(out, tensors(), OWN if is_own(trained.parent) else PLAIN)
    copy_small_files(trained.parent, out)
    return Written(sum(targeted.values()), sum(targeted[stem] for stem in changed))


def _replacement(trained: Trainable) -> Callable[[str, torch.Tensor], tuple[torch.Tensor, int]]:
    """A function from a tensor of the parent, by name and as it is stored, to what takes its place, and the parameters
    of the weight matrix in training that it is (a part of), or 0."""
    modules = trained.modules()
    adapters = trained.low_rank()
    ready: dict[str, dict[str, torch.Tensor]] = {}

    def replaced(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
        stem, _, part = name.rpartition(".")
        module = modules.get(stem)
        if isinstance(module, StoredLinear) and part != "bias":
            if stem not in ready:
                # The parts of one weight lie together, so few of them wait at a time.
                ready.clear()
                ready[stem] = module.parts()
            return ready[stem].get(part, tensor), module.in_features * module.out_features
        if stem in adapters and part == "weight":
            low = adapters[stem]
            return low.merged(tensor.to(low.up.device)).to(tensor.dtype), tensor.numel()
        value = getattr(module, part, None)
        if isinstance(value, nn.Parameter) and value.requires_grad:
            return value.detach().to(tensor.dtype), tensor.numel() if tensor.ndim == 2 else 0
        return tensor, 0

    return replaced
