"""A model's decoder layers as CUDA graphs, for runs of the same batches under weights that change in place.

A layer of a small model takes a GPU less time than Python takes to launch its kernels; a graph is one launch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LayerGraphs:
    """A graph for each batch and layer; those of a batch work on one tensor of hidden states."""

    hidden: list[torch.Tensor] = field(default_factory=list)
    """For each batch, what enters a layer's graph, and what has left it afterwards."""
    graphs: list[list[torch.cuda.CUDAGraph]] = field(default_factory=list)
    """For each batch, a graph a layer."""
    _kept: list[Any] = field(default_factory=list)
    """What the graphs read besides: they know addresses alone."""
    _pool: Any = None

    def add(self, layers: Sequence[Any], entering: torch.Tensor, named: Sequence[Mapping[str, Any]]) -> None:
        """Take another batch's graphs. entering: hidden states of its shape. named: what each layer is called with
        besides. Raises RuntimeError where a layer can't be captured."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        hidden = entering.clone()
        graphs = []
        for layer, given in zip(layers, named, strict=True):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                hidden.copy_(layer(hidden, **given))
            graphs.append(graph)
        self.hidden.append(hidden)
        self.graphs.append(graphs)
        self._kept.append(named)

    def forward(self, batch: int, layer: int, entering: torch.Tensor | None = None) -> Callable[..., torch.Tensor]:
        """What stands for the layer's `forward`. entering: what enters it, where the layer before it does not run."""
        hidden, graph = self.hidden[batch], self.graphs[batch][layer]

        def run(hidden_states: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            if entering is not None:
                hidden.copy_(entering)
            elif hidden_states is not hidden:
                hidden.copy_(hidden_states)
            graph.replay()
            return hidden

        return run


def graphs_of(layers: Sequence[Any], calls: Sequence[tuple[torch.Tensor, Sequence[Mapping[str, Any]]]]) -> LayerGraphs:
    """The graphs of layers that have run once under the same calls; none where a layer can't be captured, and none off
    a GPU or where the layers lie on several.

    calls: for each batch, hidden states of its shape, and what each layer was called with besides them.
    """
    found = LayerGraphs()
    devices = {parameter.device for layer in layers for parameter in layer.parameters()}
    if len(devices) != 1 or next(iter(devices)).type != "cuda":
        return found
    try:
        for entering, named in calls:
            found.add(layers, entering, named)
    except RuntimeError as error:
        _log.info("layers run without CUDA graphs: %s", str(error).splitlines()[0])
        return LayerGraphs()
    return found
