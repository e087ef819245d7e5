"""One pass over a model, layer by layer, that adds up what goes into every linear layer.

The layers run one at a time on the device; the others stay where they are, so GPU memory holds one layer, the hidden
states of all tokens and the sums of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.calibration.sequences import Batch, split

# A CPU runs so many tokens through a layer at a time. Activations of more do not stay in its caches, and are memory
# that the kernel clears for each of them anew: 65,000 tokens of models/captions took two cores 7.0 s (13.0 s of a CPU)
# whole, 5.1 s (9.4 s) at 4,096 and 5.6 s at 1,024, with the same sums to the last bit.
CPU_TOKENS = 4096
# Rows of a product that a CPU adds up at a time, from the diagonal on.
STRIP = 128

Take = Callable[[str, torch.Tensor], None]


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
    whole = [split(batch, CPU_TOKENS) if device.type == "cpu" else [batch] for batch in batches]
    states = [[_entering(model, layers, part, device) for part in parts] for parts in whole]
    hidden = [[state for state, _ in parts] for parts in states]
    masks = [[None if bool(part.mask.all()) else part.mask.to(device) for part in parts] for parts in whole]
    tokens = sum(batch.tokens for batch in batches)
    joined = _Joined()
    for index, layer in enumerate(layers):
        with on_device(layer, device):
            sums = LayerSums(index, tokens)
            for batch, parts in enumerate(states):
                with _taking(sums, len(parts), joined) as take:
                    for part, (_, keywords) in enumerate(parts):
                        hidden[batch][part] = _run(
                            layer, hidden[batch][part], keywords[index], masks[batch][part], sums.keys, take
                        )
        for inputs in sums.inputs.values():
            _mirror(inputs.hessian)
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
    layer: torch.nn.Module,
    hidden: torch.Tensor,
    keywords: dict[str, Any],
    mask: torch.Tensor | None,
    keys: dict[str, str],
    take: Take,
) -> torch.Tensor:
    """One layer over a part of a batch. keys: filled in where it is empty. take: gets each input's key and rows."""
    seen: dict[int, str] = {}
    alive: list[torch.Tensor] = []

    def note(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0]
            weight = f"{name}.weight"
            known = keys.get(weight)
            if known is None:
                # Tensors are told apart by identity; holding them keeps an address from being used twice.
                alive.append(rows)
                known = keys[weight] = seen.setdefault(id(rows), name)
            if known == name:
                rows = rows if mask is None else rows[mask]
                take(name, rows.reshape(-1, rows.shape[-1]))

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in linear_layers(layer).items()]
    try:
        output = layer(hidden, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    return output[0] if isinstance(output, tuple) else output


class _Joined:
    """Joins the rows of a batch's parts, always in the same memory: the kernel clears what is taken anew."""

    def __init__(self) -> None:
        self._held = torch.empty(0)

    def of(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The parts' rows, float32, until the next are joined."""
        count, width = sum(len(rows) for rows in parts), parts[0].shape[1]
        if self._held.numel() < count * width:
            self._held = torch.empty(count * width)
        rows = self._held[: count * width].view(count, width)
        return torch.cat([part.float() for part in parts], out=rows)


@contextmanager
def _taking(sums: LayerSums, parts: int, joined: _Joined) -> Iterator[Take]:
    """What takes the rows of a batch that comes in so many parts: several are added up together, at the end."""
    if parts == 1:
        yield lambda key, rows: _add(sums, key, rows, rows.abs)
        return
    taken: dict[str, list[torch.Tensor]] = {}
    yield lambda key, rows: taken.setdefault(key, []).append(rows)
    for key in list(taken):
        rows = joined.of(taken.pop(key))
        _add(sums, key, rows, rows.abs_)


def _add(sums: LayerSums, key: str, rows: torch.Tensor, magnitudes: Callable[[], torch.Tensor]) -> None:
    """Add up the rows' products, and then their magnitudes, which may be written over them."""
    if key not in sums.inputs:
        width = rows.shape[1]
        sums.inputs[key] = InputSums(
            torch.zeros(width, width, dtype=torch.float32, device=rows.device),
            torch.zeros(width, dtype=torch.float32, device=rows.device),
        )
    total = sums.inputs[key].hessian
    if rows.is_cuda:
        add_products(total, rows)
    else:
        # What is left of the diagonal is the same; see `_mirror`.
        for start in range(0, total.shape[0], STRIP):
            total[start : start + STRIP, start:].addmm_(
                rows[:, start : start + STRIP].float().T, rows[:, start:].float()
            )
    sums.inputs[key].magnitude += magnitudes().sum(dim=0, dtype=torch.float32)


def _mirror(total: torch.Tensor) -> None:
    """Write what is right of the diagonal over what is left of it, where only the first was added up."""
    if total.is_cuda:
        return
    for start in range(0, total.shape[0], STRIP):
        stop = start + STRIP
        total[stop:, start:stop] = total[start:stop, stop:].T


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
