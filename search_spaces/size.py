"""The bytes a candidate will take on disk, worked out from the base's tensor table before any GPU is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from search_spaces.checkpoint import Checkpoint, Tensor, header_size, is_target, layer_of
from search_spaces.errors import CandidateError
from search_spaces.methods import BitsAndBytes, RemoveLayers, RoundToNearest, Step

# Bytes that each quantizer adds to config.json, measured on written artefacts.
RTN_CONFIG_BYTES = 1000
BITSANDBYTES_CONFIG_BYTES = 520
NF4_BLOCK = 64
NF4_STATE_BYTES = 85


def predicted_bytes(base: Checkpoint, steps: tuple[Step, ...]) -> int:
    """Bytes of all files needed to run the candidate; raises CandidateError when a step can't apply to this model."""
    if steps:
        refuse_quantized(base)
    checkpoint = base
    for step in steps:
        checkpoint = _EFFECTS[type(step)](checkpoint, step)
    return checkpoint.bytes


def refuse_quantized(base: Checkpoint) -> None:
    """Raise CandidateError for a model that is quantized already: its packed weights can't be compressed further."""
    if "quantization_config" in base.config:
        raise CandidateError(
            "the model's config.json has a quantization_config: it is quantized already, and can't be compressed "
            "further; name the model it was made from"
        )


def _after_rtn(checkpoint: Checkpoint, step: RoundToNearest) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if not is_target(name, tensor):
            tensors[name] = tensor
            continue
        rows, columns = tensor.shape
        if step.group_size != -1 and columns % step.group_size:
            raise CandidateError(
                f"rtn.group_size={step.group_size} does not divide the {columns} input weights of {name}; "
                "use a group size that does, or -1 for one scale an output channel"
            )
        stem = name.removesuffix(".weight")
        groups = 1 if step.group_size == -1 else columns // step.group_size
        tensors[f"{stem}.weight_packed"] = Tensor("I32", (rows, math.ceil(columns * step.bits / 32)))
        tensors[f"{stem}.weight_scale"] = Tensor("BF16", (rows, groups))
        tensors[f"{stem}.weight_shape"] = Tensor("I64", (2,))
    return _with_tensors(checkpoint, tensors, RTN_CONFIG_BYTES)


def _after_bitsandbytes(checkpoint: Checkpoint, step: BitsAndBytes) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if not is_target(name, tensor):
            # The library loads the model in bfloat16, so that is how all it leaves alone is written.
            tensors[name] = Tensor("BF16", tensor.shape)
        elif step.format == "int8":
            tensors[name] = Tensor("I8", tensor.shape)
            tensors[name.removesuffix(".weight") + ".SCB"] = Tensor("F32", tensor.shape[:1])
            tensors[name.removesuffix(".weight") + ".weight_format"] = Tensor("U8", ())
        else:
            tensors[name] = Tensor("U8", (math.ceil(tensor.parameters / 2), 1))
            tensors[f"{name}.absmax"] = Tensor("F32", (math.ceil(tensor.parameters / NF4_BLOCK),))
            tensors[f"{name}.quant_map"] = Tensor("F32", (16,))
            tensors[f"{name}.quant_state.bitsandbytes__nf4"] = Tensor("U8", (NF4_STATE_BYTES,))
    return _with_tensors(checkpoint, tensors, BITSANDBYTES_CONFIG_BYTES)


def _after_remove_layers(checkpoint: Checkpoint, step: RemoveLayers) -> Checkpoint:
    if step.count >= checkpoint.layers:
        raise CandidateError(
            f"remove_layers.count={step.count} leaves none of the model's {checkpoint.layers} layers; remove fewer"
        )
    # Which layers go is known only after calibration; decoder layers of one model are taken as alike in size.
    kept = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if (index := layer_of(name)) is None or index < checkpoint.layers - step.count
    }
    return _with_tensors(checkpoint, kept, 0)


def _with_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor], more_config: int) -> Checkpoint:
    return replace(
        checkpoint,
        tensors=tensors,
        header_bytes=header_size(tensors),
        other_bytes=checkpoint.other_bytes + more_config,
    )


_EFFECTS: dict[type[Step], Callable[[Checkpoint, Any], Checkpoint]] = {
    RoundToNearest: _after_rtn,
    BitsAndBytes: _after_bitsandbytes,
    RemoveLayers: _after_remove_layers,
}
