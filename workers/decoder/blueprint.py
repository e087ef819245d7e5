"""What the decoder needs to know of a model: its weights by role, in the order a token meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """One decoder layer.

    qkv: (tokens, width) -> (tokens, (heads + 2 * kv_heads) * head_dim), the queries first. gate_up: -> (tokens, 2 *
    intermediate), the gate first. after_attention, after_mlp: norms of a branch's output before it is added (Gemma).
    q_norm, k_norm: over each head. cap: of the scores, which become cap * tanh(score / cap); None is none. window: how
    many positions a token sees, itself included; None is all. rope: which of the blueprint's tables.
    """

    before_attention: Norm
    qkv: Apply
    q_norm: Norm | None
    k_norm: Norm | None
    out: Apply
    after_attention: Norm | None
    before_mlp: Norm
    gate_up: Apply
    down: Apply
    after_mlp: Norm | None
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    cap: float | None
    window: int | None
    rope: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model by roles.

    embed: token ids (tokens,) -> (tokens, width), scaled as the model scales them. head: -> logits. cap: of the logits,
    as a layer's. ropes: name -> function of positions (tokens,) giving cos and sin, each (tokens, head_dim), in the
    model's type. capturable: every layer can run inside a CUDA graph, and in several threads at once.
    """

    embed: Apply
    layers: tuple[Layer, ...]
    norm: Norm
    head: Apply
    cap: float | None
    ropes: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]]
    activation: Activation
    capturable: bool
    vocabulary: int
    dtype: torch.dtype
    device: torch.device
