"""One pass over a model, layer by layer, that adds up what goes into every linear layer.

The layers run one at a time on the device; the others stay where they are, so GPU memory holds one layer, the hidden
states of all tokens and the sums of one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.calibration.sequences import Batch


@dataclass(slots=True)
class InputSums:
    """What one linear layer's inputs add up to. hessian: Σ x xᵀ, float32 (columns, columns). magnitude: Σ |x|, float32
    (columns,)."""

    hessian: torch.Tensor
    magnitude: torch.Tensor


@dataclass(slots=True)
class LayerSums:
    """One decoder layer's sums. inputs: key -> sums, one for all linear layers that read the same input. keys: weight
    name within the layer, such as `self_attn.q_proj.weight` -> key."""

    index: int
    tokens: int
    keys: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, InputSums] = field(default_factory=dict)


@torch.inference_mode()
def capture(model: Any, batches: Sequence[Batch], device: torch.device) -> Iterator[LayerSums]:
    """The sums of each decoder layer in turn, over the real tokens of all batches.

    Products are of the model's type (bfloat16 on a GPU), added up in float32. Raises ValueError for activations that
    are not finite, StudyError for a layer without linear layers.
    """
    layers = model.get_decoder().layers
    states = [_entering(model, layers, batch, device) for batch in batches]
    hidden = [state for state, _ in states]
    masks = [None if bool(batch.mask.all()) else batch.mask.to(device) for batch in batches]
    tokens = sum(batch.tokens for batch in batches)
    for index, layer in enumerate(layers):
        with on_device(layer, device):
            sums = LayerSums(index, tokens)
            for position, (_, keywords) in enumerate(states):
                hidden[position] = _run(layer, hidden[position], keywords[index], masks[position], sums)
        refuse_not_finite(sums)
        yield sums


def add_products(total: torch.Tensor, rows: torch.Tensor) -> None:
    """total += rowsᵀ · rows in float32: exact products of bfloat16 values, float32 accumulation and output.

    rows: (tokens, columns). On a GPU the tensor cores multiply bfloat16 as it is.
    """
    if rows.is_cuda and rows.dtype == torch.bfloat16:
        total += torch.mm(rows.T, rows, out_dtype=torch.float32)
    else:
        total.addmm_(rows.float().T, rows.float())


def refuse_not_finite(sums: LayerSums) -> None:
    """Raise ValueError when a layer's inputs held values that are not finite."""
    for key, inputs in sums.inputs.items():
        if not torch.isfinite(inputs.hessian).all():
            raise ValueError(
                f"the inputs of layer {sums.index}'s {key} are not finite on the calibration set; the model is damaged "
                "or overflows its number type"
            )


@contextmanager
def on_device(layer: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """The layer's weights are on the device inside; after it they are where they were, without being copied back."""
    homes = [(tensor, tensor.data) for tensor in (*layer.parameters(), *layer.buffers())]
    try:
        layer.to(device)
        yield
    finally:
        for tensor, home in homes:
            tensor.data = home


def linear_layers(layer: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """A decoder layer's linear layers by name; raises StudyError when it has none."""
    found = {name: module for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear)}
    if not found:
        raise StudyError(
            f"a decoder layer of type {type(layer).__name__} has no torch.nn.Linear; its weights can't be calibrated. "
            "Use a method without calibration (rtn, hqq, bitsandbytes)"
        )
    return found


def _run(
    layer: torch.nn.Module, hidden: torch.Tensor, keywords: dict[str, Any], mask: torch.Tensor | None, sums: LayerSums
) -> torch.Tensor:
    """One layer over one batch; what enters its linear layers is added to the sums."""
    seen: dict[int, str] = {}
    alive: list[torch.Tensor] = []

    def note(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0]
            weight = f"{name}.weight"
            known = sums.keys.get(weight)
            if known is None:
                # Tensors are told apart by identity; holding them keeps an address from being used twice.
                alive.append(rows)
                known = sums.keys[weight] = seen.setdefault(id(rows), name)
            if known == name:
                _add(sums, name, rows if mask is None else rows[mask])

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in linear_layers(layer).items()]
    try:
        output = layer(hidden, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    return output[0] if isinstance(output, tuple) else output


def _add(sums: LayerSums, key: str, rows: torch.Tensor) -> None:
    rows = rows.reshape(-1, rows.shape[-1])
    if key not in sums.inputs:
        width = rows.shape[1]
        sums.inputs[key] = InputSums(
            torch.zeros(width, width, dtype=torch.float32, device=rows.device),
            torch.zeros(width, dtype=torch.float32, device=rows.device),
        )
    add_products(sums.inputs[key].hessian, rows)
    sums.inputs[key].magnitude += rows.abs().sum(dim=0, dtype=torch.float32)


def _entering(model: Any, layers: Any, batch: Batch, device: torch.device) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The hidden states that enter the first layer, and the keyword arguments each layer is called with."""
    keywords: dict[int, dict[str, Any]] = {}
    entering: list[torch.Tensor] = []

    def passing(index: int) -> Any:
        def forward(hidden_states: torch.Tensor, *positional: Any, **given: Any) -> torch.Tensor:
            if positional:
                raise StudyError(
                    f"decoder layers of {type(model).__name__} take positional arguments, which calibration does not "
                    "know; use a method without calibration (rtn, hqq, bitsandbytes)"
                )
            if index == 0:
                entering.append(hidden_states)
            keywords[index] = given
            return hidden_states

        return forward

    where = model.get_input_embeddings().weight.device
    try:
        for index, layer in enumerate(layers):
            layer.forward = passing(index)
        model.get_decoder()(**batch.inputs(where))
    finally:
        for layer in layers:
            del layer.forward
    moved: dict[int, Any] = {}
    return entering[0].to(device), [
        {name: _moved(value, device, moved) for name, value in keywords[index].items()} for index in range(len(layers))
    ]


def _moved(value: Any, device: torch.device, done: dict[int, Any]) -> Any:
    """The value with its tensors on the device; a tensor that many layers share is moved once."""
    if isinstance(value, torch.Tensor):
        if id(value) not in done:
            done[id(value)] = value.to(device)
        return done[id(value)]
    if isinstance(value, tuple):
        return tuple(_moved(item, device, done) for item in value)
    return value
