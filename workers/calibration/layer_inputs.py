"""What enters each decoder layer of a model, kept so that a run may begin at a later layer.

Where only the weights from some layer on are others, what enters that layer is the same, and the layers before it need
not be run again. On a GPU the others run as CUDA graphs, so weights must change in place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from workers.calibration.layer_graphs import LayerGraphs, graphs_of
from workers.calibration.sequences import Batch
from workers.runtime.gpu_memory import free_memory

MOST_BYTES = 4 * 2**30
# Of a GPU's free memory.
DEVICE_SHARE = 0.25

Run = Callable[[Any, Batch], torch.Tensor]
Forward = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Call:
    """A layer's call: the hidden states that enter, and what it is given by name besides."""

    entering: torch.Tensor
    named: dict[str, Any]


class LayerInputs:
    """The hidden states that enter each decoder layer, of the weights that the model had when they were taken."""

    def __init__(self) -> None:
        self._held: list[list[torch.Tensor]] = []
        self._graphs: LayerGraphs | None = None

    @torch.inference_mode()
    def take(self, model: Any, batches: Sequence[Batch], run: Run) -> None:
        """Run the model over the batches, and keep what enters its layers; nothing where memory is short, or where a
        run that begins at a later layer does not end in the very same numbers."""
        self._held = []
        layers = model.get_decoder().layers
        if not _fits(model, len(layers), batches):
            return
        calls, found = [], None
        for batch in batches:
            with _recorded(layers) as recorded:
                logits = run(model, batch)
            if not recorded:
                return
            calls.append(recorded)
            found = logits if found is None else found
        self._held = [[call.entering for call in recorded] for recorded in calls]
        if self._graphs is None:
            self._graphs = graphs_of(layers, [(one[0].entering, [call.named for call in one]) for one in calls])
        while not self._same(model, batches[0], run, found):
            if not self._graphs.graphs:
                self._held = []
                return
            self._graphs = LayerGraphs()

    def _same(self, model: Any, batch: Batch, run: Run, found: torch.Tensor | None) -> bool:
        """Whether a run over the first batch that begins in the middle ends as the whole one did."""
        with self.starting_at(model, len(model.get_decoder().layers) // 2, 0):
            return found is not None and torch.equal(found, run(model, batch))

    @property
    def known(self) -> bool:
        """Whether what enters the layers is kept."""
        return bool(self._held)

    @contextmanager
    def starting_at(self, model: Any, first: int, batch: int, without: Collection[int] = ()) -> Iterator[None]:
        """Inside, a run over the batch of this number skips the layers before `first`, if what enters is known, and
        then those in `without` too, which hand on what they are given."""
        if not self._held:
            yield
            return
        layers = model.get_decoder().layers
        # Of layers that have a `forward` of their own, not their class's.
        own = {number: vars(layer)["forward"] for number, layer in enumerate(layers) if "forward" in vars(layer)}
        try:
            for number, layer in enumerate(layers):
                layer.forward = self._forward(number, layer.forward, first, batch, number in without)
            yield
        finally:
            for number, layer in enumerate(layers):
                vars(layer).pop("forward", None)
                if number in own:
                    layer.forward = own[number]

    def _forward(self, number: int, own: Forward, first: int, batch: int, is_gone: bool) -> Forward:
        """What the layer of this number does in a run that begins at the layer `first`. own: its own `forward`."""
        if number < first:
            return _pass
        entering = self._held[batch][first] if number == first > 0 else None
        if is_gone:
            return _pass if entering is None else partial(_entered, _pass, entering)
        if self._graphs is not None and self._graphs.graphs:
            return self._graphs.forward(batch, number, entering)
        return own if entering is None else partial(_entered, own, entering)


def _pass(hidden_states: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
    return hidden_states


def _entered(
    own: Forward, entering: torch.Tensor, hidden_states: torch.Tensor, *given: Any, **named: Any
) -> torch.Tensor:
    return own(entering, *given, **named)


def _fits(model: Any, layers: int, batches: Sequence[Batch]) -> bool:
    weight = model.get_input_embeddings().weight
    size = layers * sum(batch.ids.numel() for batch in batches) * weight.shape[1] * weight.element_size()
    room = DEVICE_SHARE * free_memory(weight.device) if weight.device.type == "cuda" else MOST_BYTES
    return bool(size <= min(MOST_BYTES, room))


@contextmanager
def _recorded(layers: Any) -> Iterator[list[_Call]]:
    """Inside, a run fills the list with each layer's call; empty where a layer takes more by its place than hidden
    states, or gives more."""
    calls: list[_Call] = []
    plain: list[bool] = []

    def note(module: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        rest = {key: value for key, value in named.items() if key != "hidden_states"}
        calls.append(_Call(given[0] if given else named["hidden_states"], rest))
        plain.append(isinstance(output, torch.Tensor) and len(given) <= 1)

    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        if len(calls) != len(layers) or not all(plain):
            calls.clear()
