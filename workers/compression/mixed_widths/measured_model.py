"""A running model whose weights are quantized by an allocation, so that other allocations near it can be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from search_spaces.methods.quantizers import MixedWidths
from search_spaces.sizes.tensor_table import layer_of
from workers.calibration.damping import Hear, unheard
from workers.calibration.divergence import Divergence
from workers.calibration.statistics import Statistics
from workers.compression.mixed_widths.allocation import Allocation
from workers.compression.mixed_widths.group_quantizing import put, quantize_group, replace_weights
from workers.compression.mixed_widths.quantized_groups import QuantizedGroups
from workers.compression.mixed_widths.width_groups import AS_IS, WidthGroup, parameter
from workers.stored_forms.integer_grid import QuantizedWeight, to_integers
from workers.stored_forms.single_weights import StoredWeights

# A weight's name, its values in the model's type, and the quantized weight: None for one as it is stored.
_Change = tuple[str, torch.Tensor, QuantizedWeight | None]


@dataclass(slots=True)
class MeasuredModel:
    """A model whose divergence from its parent is measured under allocations. It starts out with the parent's
    weights."""

    model: Any
    """The model whose weights are exchanged."""
    divergence: Divergence
    """How far a model is from the parent."""
    weights: StoredWeights
    """The parent's stored weights."""
    statistics: Statistics
    """The calibration statistics."""
    groups: list[WidthGroup]
    """The groups of weights, in the order of allocations."""
    step: MixedWidths
    """Whose groups and zero points the weights have."""
    quantized_groups: QuantizedGroups
    """What was quantized already, and what is from now on."""
    hear: Hear = unheard
    """Is told of each Hessian's damping."""
    _held: Allocation | None = field(init=False, default=None)
    """The allocation that the model has now; None for the parent's weights."""
    _settled: dict[str, QuantizedWeight] = field(init=False, default_factory=dict)
    """The quantized weights that the model has now, without their integers: the model's values tell those."""

    def measure(self, allocation: Allocation) -> float:
        """The divergence under this allocation; the model is left as it was."""
        changes = {name: dense for name, dense, _ in self._changes(allocation)}
        first = min((layer_of(name) or 0 for name in changes), default=0) if self._held is not None else 0
        with replace_weights(self.model, changes):
            return self.divergence.of(self.model, first)

    def settle(self, allocation: Allocation) -> None:
        """Let the model have this allocation from now on."""
        for name, dense, quantized in self._changes(allocation):
            put(self.model, {name: dense})
            self._settled.pop(name, None)
            if quantized is not None:
                self._settled[name] = replace(quantized, integers=quantized.integers.new_empty(0))
        self._held = allocation
        self.divergence.remember(self.model)

    def quantized(self, name: str) -> QuantizedWeight:
        """A weight as the model has it now; raises KeyError for one that was left as it was.

        Its integers are read off the model's values: a bfloat16 keeps 8 bits, and so is within a quarter of a step.
        """
        settled = self._settled[name]
        values = parameter(self.model, name).data
        return replace(settled, integers=to_integers(values, settled.grid, settled.bits))

    def _changes(self, allocation: Allocation) -> Iterator[_Change]:
        """The weights in which this allocation differs from what the model holds."""
        for number, group in enumerate(self.groups):
            if self._held is None or self._held[number] != allocation[number]:
                yield from self._made(group, list(group.bytes)[allocation[number]])

    def _made(self, group: WidthGroup, bits: int) -> Iterator[_Change]:
        if bits == AS_IS:
            for name in group.weights:
                yield name, self.weights.read(name)[0].to(self.model.dtype), None
            return
        found = self.quantized_groups.get(group.name, bits)
        if found is None:
            # Every group is quantized for the first allocation; those to come say no more of its Hessian.
            hear = self.hear if self._held is None else unheard
            made = quantize_group(group, (bits,), self.weights, self.statistics, self.step, hear)
            found = {name: widths[bits] for name, _, widths in made}
            self.quantized_groups.keep(group.name, bits, found)
        for name, one in found.items():
            yield name, one.dequantized().to(self.model.dtype), one
