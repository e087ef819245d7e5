"""One pass of tokens through a blueprint; how keys are kept and attended to is the engine's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch.nn import functional

from workers.decoder.blueprint import Activation, Blueprint, Layer, Norm, Run

# (layer's index, layer, projected queries, keys and values) -> attention's output (tokens, heads * head_dim).
Attend = Callable[[int, Layer, torch.Tensor], torch.Tensor]


class Operations(Protocol):
    """The arithmetic between matrix products."""

    def norm(self, x: torch.Tensor, norm: Norm) -> torch.Tensor: ...

    def add_norm(self, x: torch.Tensor, residual: torch.Tensor, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
        """x + residual, normed and as it is."""
        ...

    def gated(self, gate_up: torch.Tensor, activation: Activation) -> torch.Tensor: ...


def hidden_states(
    blueprint: Blueprint, ops: Operations, ids: torch.Tensor, attend: Attend, wanted: torch.Tensor | None = None
) -> torch.Tensor:
    """ids (tokens,) -> the last layer's output before the final norm, (tokens, width), where the head lies.

    wanted: positions of the tokens whose output is needed; behind the last layer's attention only they go on. Between
    two runs of layers the hidden states move to the next one's device.
    """
    hidden = blueprint.embed(ids)
    for run in blueprint.runs:
        last = wanted if run.end == len(blueprint.layers) else None
        with current(run.device):
            hidden = through(blueprint, run, ops, hidden.to(run.device), attend, last)
    return hidden.to(blueprint.device)


def through(
    blueprint: Blueprint,
    run: Run,
    ops: Operations,
    residual: torch.Tensor,
    attend: Attend,
    wanted: torch.Tensor | None = None,
) -> torch.Tensor:
    """What enters the run's first layer -> what leaves its last one, (tokens, width), both on its device. wanted: as in
    `hidden_states`, behind the run's last attention."""
    x = ops.norm(residual, blueprint.layers[run.first].before_attention)
    last = run.end - 1
    for index in range(run.first, run.end):
        layer = blueprint.layers[index]
        read = attend(index, layer, layer.qkv(x))
        if index == last and wanted is not None:
            here = wanted.to(run.device)
            read, residual = read[here], residual[here]
        branch = layer.out(read)
        if layer.after_attention is not None:
            branch = ops.norm(branch, layer.after_attention)
        x, residual = ops.add_norm(branch, residual, layer.before_mlp)
        branch = layer.down(ops.gated(layer.gate_up(x), blueprint.activation))
        if layer.after_mlp is not None:
            branch = ops.norm(branch, layer.after_mlp)
        if index == last:
            return residual + branch
        x, residual = ops.add_norm(branch, residual, blueprint.layers[index + 1].before_attention)
    return residual


def current(device: torch.device) -> AbstractContextManager[object]:
    """Inside, kernels of Triton's, events and streams are those of this device; nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def logits(blueprint: Blueprint, ops: Operations, hidden: torch.Tensor) -> torch.Tensor:
    """The final norm, the head and its cap: (tokens, width) -> (tokens, vocabulary)."""
    scores = blueprint.head(ops.norm(hidden, blueprint.norm))
    return scores if blueprint.cap is None else capped(scores, blueprint.cap)


def capped(scores: torch.Tensor, cap: float) -> torch.Tensor:
    """cap * tanh(scores / cap), in place (Gemma 2, https://arxiv.org/abs/2408.00118, section 2)."""
    return scores.div_(cap).tanh_().mul_(cap)


class TorchOperations:
    """The arithmetic in plain torch, in the order transformers has it."""

    def norm(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        width = (x.shape[-1],)
        if norm.offset:
            return functional.rms_norm(x.float(), width, norm.weight, norm.eps).type_as(x)
        if x.dtype == torch.float32:
            return functional.rms_norm(x, width, norm.weight, norm.eps)
        return norm.weight * functional.rms_norm(x.float(), width, None, norm.eps).type_as(x)

    def add_norm(self, x: torch.Tensor, residual: torch.Tensor, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
        total = residual + x
        return self.norm(total, norm), total

    def gated(self, gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        if activation == "silu":
            # In place: what the products gave is nobody else's, and a CPU spends its time on memory.
            return functional.silu(gate, inplace=True).mul_(up)
        return functional.gelu(gate, approximate="tanh") * up


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864): x (tokens, heads, head_dim), cos and sin
    (tokens, head_dim)."""
    half = x.shape[-1] // 2
    turned = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    sin = torch.cat((-sin[:, :half], sin[:, half:]), dim=-1)
    return turned.mul_(sin[:, None]).add_(x * cos[:, None])
