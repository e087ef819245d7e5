"""What the decoder needs to know of a model: its weights by role, in the order a token meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch

Activation = Literal["silu", "gelu_tanh"]
Apply = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).

    weight: (width,) in the model's type, or, with `offset`, in float32 with 1 added: Gemma multiplies before it rounds,
    Llama rounds before it multiplies.
    """

    weight: torch.Tensor
    eps: float
    offset: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer."""

    before_attention: Norm
    """Norm of the attention's input."""
    qkv: Apply
    """(tokens, width) -> (tokens, (heads + 2 * kv_heads) * head_dim), the queries first."""
    q_norm: Norm | None
    """Norm over each query head, or None."""
    k_norm: Norm | None
    """Norm over each key head, or None."""
    out: Apply
    """Output projection of the attention."""
    after_attention: Norm | None
    """Norm of the attention's output before it is added (Gemma), or None."""
    before_mlp: Norm
    """Norm of the MLP's input."""
    gate_up: Apply
    """(tokens, width) -> (tokens, 2 * intermediate), the gate first."""
    down: Apply
    """Down projection of the MLP."""
    after_mlp: Norm | None
    """Norm of the MLP's output before it is added (Gemma), or None."""
    heads: int
    """How many query heads."""
    kv_heads: int
    """How many key-value heads."""
    head_dim: int
    """Width of one head."""
    scale: float
    """Factor of the attention scores."""
    cap: float | None
    """Cap of the attention scores, which become cap * tanh(score / cap); None is no cap."""
    window: int | None
    """How many positions a token sees, itself included; None is all."""
    rope: str
    """Which of the blueprint's `ropes` the layer uses."""
    device: torch.device
    """Where the layer lies."""


@dataclass(frozen=True, slots=True)
class Run:
    """Decoder layers one after another that lie on one device: those from `first` on, before `end`."""

    device: torch.device
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model by roles."""

    embed: Apply
    """Token ids (tokens,) -> (tokens, width), scaled as the model scales them."""
    layers: tuple[Layer, ...]
    """The decoder layers, in order."""
    norm: Norm
    """The last norm, before the head."""
    head: Apply
    """(tokens, width) -> logits."""
    cap: float | None
    """Cap of the logits, as a layer's cap of scores; None is no cap."""
    ropes: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]]
    """Name -> function of positions (tokens,) that gives cos and sin, each (tokens, head_dim), in the model's type."""
    activation: Activation
    """Activation of the MLP's gate."""
    capturable: bool
    """Whether every layer can run inside a CUDA graph, and in several threads at once."""
    vocabulary: int
    """How many tokens."""
    dtype: torch.dtype
    """The model's type."""
    device: torch.device
    """Where embeddings, the last norm and the head lie, and most often the layers."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """The layers in order, cut where the device changes."""
        found = []
        for device, numbers in groupby(range(len(self.layers)), lambda number: self.layers[number].device):
            together = list(numbers)
            found.append(Run(device, together[0], together[-1] + 1))
        return tuple(found)
