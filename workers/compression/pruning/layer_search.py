"""Which decoder layers go, by measured divergence: one after another, or the set whose measured costs add up to least.

A cost is the mean KL divergence, in nats a target token, of the model without the layers from the whole model, on
calibration pairs kept apart for measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import CandidateError
from workers.calibration.divergence import Divergence, measuring_batches
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext

# Pairs are measured among so many of the layers that cost least alone, and at least this many more than shall go.
CANDIDATES = 16
SPARE = 2

# The divergence of the model without these layers.
Cost = Callable[[Collection[int]], float]
Search = Callable[[Cost, int, int], "LayerChoice"]


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """removed: the layers that go, rising. notes: what was measured, for the trial's record."""

    removed: tuple[int, ...]
    notes: tuple[str, ...]


def choose(search: Search, folder: Path, count: int, context: CompressionContext) -> LayerChoice:
    """The `count` layers of the model that `search` would remove.

    Raises StudyError without calibration pairs to measure on, CandidateError when no layer would stay.
    """
    measured = measuring_batches(load_tokenizer(folder, context.trust_remote_code), context)
    model = load_model(folder, context.whole_on, context.trust_remote_code)
    layers = model.get_decoder().layers
    if count >= len(layers):
        raise CandidateError(
            f"remove_layers.count={count} leaves none of the model's {len(layers)} layers; remove fewer"
        )
    divergence = Divergence(model, measured)
    remembered = divergence.remember(model)

    def cost(removed: Collection[int]) -> float:
        if remembered:
            return divergence.of(model, min(removed), removed)
        with bypass_layers([layers[index] for index in removed]):
            return divergence.of(model)

    return search(cost, len(layers), count)


def greedy(cost: Cost, depth: int, count: int) -> LayerChoice:
    """One layer after another, each time the one whose absence, with that of those before it, costs least; of equals
    the later. Measures about depth · count sets."""
    removed: list[int] = []
    said: list[str] = []
    for _ in range(count):
        costs = {layer: cost([*removed, layer]) for layer in range(depth) if layer not in removed}
        least = min(costs, key=lambda layer: (costs[layer], -layer))
        removed.append(least)
        said.append(f"{least} ({costs[least]:.4f})")
    return LayerChoice(
        tuple(sorted(removed)),
        (f"layers removed in turn (divergence in nats a token once each is gone): {', '.join(said)}",),
    )


def pairwise(cost: Cost, depth: int, count: int) -> LayerChoice:
    """The set of least Σ single + Σ over its pairs of what a pair costs beyond its two singles; every single, and every
    pair of the candidates, is measured. The minimum is exact: all sets of candidates are compared.

    After https://arxiv.org/abs/2602.00161.
    """
    singles = {layer: cost([layer]) for layer in range(depth)}
    ranked = sorted(singles, key=lambda layer: (singles[layer], -layer))
    candidates = sorted(ranked[: max(CANDIDATES, count + SPARE)])
    pairs: dict[tuple[int, int], float] = {}
    if count > 1:
        pairs = {(first, second): cost([first, second]) for first, second in combinations(candidates, 2)}
    removed, predicted = least_set(singles, pairs, candidates, count)
    measured = singles[removed[0]] if count == 1 else pairs[removed[0], removed[1]] if count == 2 else cost(removed)
    said = ", ".join(f"{layer} ({singles[layer]:.4f})" for layer in removed)
    notes = [f"layers removed (divergence in nats a token of each alone): {said}"]
    notes.append(f"divergence of all removed: {measured:.4f} measured, {predicted:.4f} by singles and pairs")
    if len(candidates) < depth:
        notes.append(f"pairs were measured among the {len(candidates)} layers of least single cost, of {depth}")
    return LayerChoice(removed, tuple(notes))


def least_set(
    singles: Mapping[int, float], pairs: Mapping[tuple[int, int], float], candidates: Sequence[int], count: int
) -> tuple[tuple[int, ...], float]:
    """The set of `count` candidates of least summed cost, and that cost; of equals the one with the later layers.

    pairs: (lower layer, higher layer) -> cost of both; not read for one layer.
    """
    beyond = {pair: together - singles[pair[0]] - singles[pair[1]] for pair, together in pairs.items()}

    def total(chosen: tuple[int, ...]) -> float:
        return sum(singles[layer] for layer in chosen) + sum(beyond[pair] for pair in combinations(chosen, 2))

    costs = {chosen: total(chosen) for chosen in combinations(sorted(candidates), count)}
    best = min(costs, key=lambda chosen: (costs[chosen], [-layer for layer in chosen]))
    return best, costs[best]


@contextmanager
def bypass_layers(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside, these layers hand on the hidden state they are given. They keep their place, by which a model picks each
    layer's attention mask and rotary embedding."""

    def hand_on(module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        hidden = inputs[0] if inputs else keywords["hidden_states"]
        # What leaves a device's last layer may be on another one already.
        hidden = hidden.to((output[0] if isinstance(output, tuple) else output).device)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = [layer.register_forward_hook(hand_on, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
