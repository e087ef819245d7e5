"""Trained tensors in and out of DeepSpeed's shards: whole, in float32, and none missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workers.checkpoints.tensor_files import read_tensors, write_tensors
from workers.training.loop.optimizer import trainable

FILE = "trained.safetensors"


def shapes_of(learner: nn.Module) -> dict[str, torch.Size]:
    """Every trained tensor's name and its shape, before a stage 3 takes the shape away."""
    return {name: parameter.shape for name, parameter in trainable(learner).items()}


def beyond_bfloat16(learner: nn.Module) -> dict[str, torch.Tensor]:
    """Copies, in host memory, of the trained tensors that bfloat16 would round."""
    return {
        name: parameter.detach().float().cpu()
        for name, parameter in trainable(learner).items()
        if not torch.equal(parameter.detach().bfloat16().to(parameter.dtype), parameter.detach())
    }


def set_masters(engine: Any, values: Mapping[str, torch.Tensor]) -> None:
    """Give the float32 master copies these values; DeepSpeed makes them from the weights it has rounded."""
    from deepspeed.utils import safe_set_full_fp32_param

    trained = trainable(engine.module)
    for name, value in values.items():
        safe_set_full_fp32_param(trained[name], value.to(engine.device))


def gather_trained(engine: Any, shapes: Mapping[str, torch.Size], keep: bool) -> dict[str, torch.Tensor]:
    """Every trained tensor in float32 in host memory. Collective: all processes call it, and those of `keep` hold it.

    Raises RuntimeError for a tensor that does not come back, or not whole: at stage 3 a model's own tensors are empty,
    and saving them raises nothing (https://github.com/deepspeedai/DeepSpeed/issues/3620).
    """
    from deepspeed.utils import safe_get_full_fp32_param

    trained = trainable(engine.module)
    whole: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        value = safe_get_full_fp32_param(trained[name]) if name in trained else None
        found = None if value is None else tuple(value.shape)
        if value is None or value.shape != shape:
            raise RuntimeError(f"DeepSpeed gave back {name} with shape {found}; {tuple(shape)} was trained")
        if keep:
            whole[name] = value.detach().float().cpu().clone()
    return whole


def write_trained(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors of a learner's student into the folder, by their names in the student; nothing else is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    draft = folder / f".{FILE}"
    write_tensors(draft, own)
    draft.rename(folder / FILE)


def load_trained(model: nn.Module, folder: Path) -> None:
    """Put the trained tensors of `write_trained` into the student, in its own types. Raises RuntimeError when they are
    not just those that the student trains."""
    trained = trainable(model)
    values = dict(read_tensors(folder / FILE, torch.device("cpu")))
    if values.keys() != trained.keys():
        odd = sorted(values.keys() ^ trained.keys())[0]
        raise RuntimeError(f"{folder} and the model differ in what was trained: only one of them has {odd}")
    with torch.no_grad():
        for name, parameter in trained.items():
            if values[name].shape != parameter.shape:
                raise RuntimeError(f"{name} is {tuple(values[name].shape)} in {folder}, not {tuple(parameter.shape)}")
            parameter.copy_(values[name])
