"""What enters each decoder layer of a model, kept so that a run may begin at a later layer.

Where only the weights from some layer on are others, what enters that layer is the same, and the layers before it need
not be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from workers.calibration.sequences import Batch
from workers.runtime.gpu_memory import free_memory

MOST_BYTES = 4 * 2**30
# Of a GPU's free memory.
DEVICE_SHARE = 0.25

Run = Callable[[Any, Batch], torch.Tensor]


class LayerInputs:
    """The hidden states that enter each decoder layer, of the weights that the model had when they were taken."""

    def __init__(self) -> None:
        self._held: list[list[torch.Tensor]] = []

    @torch.inference_mode()
    def take(self, model: Any, batches: Sequence[Batch], run: Run) -> None:
        """Run the model over the batches, and keep what enters its layers; nothing where memory is short, or where a
        run that begins at a later layer does not end in the very same numbers."""
        self._held = []
        layers = model.get_decoder().layers
        if not _fits(model, len(layers), batches):
            return
        taken = []
        for batch in batches:
            with _recorded(layers) as states:
                found = run(model, batch)
            if not states:
                return
            taken.append(states)
            if len(taken) == 1:
                self._held = taken
                with self.starting_at(model, len(layers) // 2, 0):
                    again = run(model, batch)
                if not torch.equal(found, again):
                    self._held = []
                    return
        self._held = taken

    @contextmanager
    def starting_at(self, model: Any, first: int, batch: int) -> Iterator[None]:
        """Inside, a run over the batch of this number skips the layers before `first`, if what enters is known."""
        if not first or not self._held:
            yield
            return
        layers = model.get_decoder().layers
        entering = self._held[batch][first]

        def enter(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return ((entering, *given[1:]), named) if given else (given, {**named, "hidden_states": entering})

        handle = layers[first].register_forward_pre_hook(enter, with_kwargs=True)
        try:
            for layer in layers[:first]:
                layer.forward = _pass
            yield
        finally:
            handle.remove()
            for layer in layers[:first]:
                layer.__dict__.pop("forward", None)


def _pass(hidden_states: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
    return hidden_states


def _fits(model: Any, layers: int, batches: Sequence[Batch]) -> bool:
    weight = model.get_input_embeddings().weight
    size = layers * sum(batch.ids.numel() for batch in batches) * weight.shape[1] * weight.element_size()
    room = DEVICE_SHARE * free_memory(weight.device) if weight.device.type == "cuda" else MOST_BYTES
    return size <= min(MOST_BYTES, room)


@contextmanager
def _recorded(layers: Any) -> Iterator[list[torch.Tensor]]:
    """Inside, a run fills the list with what enters each layer; empty where a layer gives more than hidden states."""
    states: list[torch.Tensor] = []
    plain: list[bool] = []

    def note(module: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        states.append(given[0] if given else named["hidden_states"])
        plain.append(isinstance(output, torch.Tensor))

    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
        if len(states) != len(layers) or not all(plain):
            states.clear()
