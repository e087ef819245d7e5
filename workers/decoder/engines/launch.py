"""Calls of the decoder's kernels on tensors: grids, block sizes, and the shapes that go in and come out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from workers.decoder.blueprint import Activation, Layer, Norm
from workers.decoder.engines import kernels

NO_WINDOW = 2**30
HEAD_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Places:
    """Where tokens stand. slots, positions: (tokens,) int32. table: (slots, width) int32, the pool's row of each
    position of each slot."""

    slots: torch.Tensor
    positions: torch.Tensor
    table: torch.Tensor


class TritonOperations:
    """The arithmetic between matrix products, one kernel each."""

    def norm(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        return _add_norm(x, None, norm)[0]

    def add_norm(self, x: torch.Tensor, residual: torch.Tensor, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
        return _add_norm(x, residual, norm)

    def gated(self, gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty((rows, width), dtype=gate_up.dtype, device=gate_up.device)
        block = min(1024, triton.next_power_of_2(width))
        kernels.gated_kernel[(rows, triton.cdiv(width, block))](
            gate_up, out, width, GELU=activation == "gelu_tanh", BLOCK=block
        )
        return out


def _add_norm(x: torch.Tensor, residual: torch.Tensor | None, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.contiguous()
    rows, width = x.shape
    normed = torch.empty_like(x)
    total = x if residual is None else torch.empty_like(x)
    block = triton.next_power_of_2(width)
    kernels.add_norm_kernel[(rows,)](
        x,
        x if residual is None else residual,
        norm.weight,
        normed,
        total,
        width,
        norm.eps,
        ADD=residual is not None,
        OFFSET=norm.offset,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
    )
    return normed, total


def rotate_and_keep(
    layer: Layer,
    qkv: torch.Tensor,
    turns: tuple[torch.Tensor, torch.Tensor],
    keys: torch.Tensor,
    values: torch.Tensor,
    places: Places,
) -> torch.Tensor:
    """Queries (tokens, heads, head_dim), normed and turned; keys and values put into the pool's rows.

    qkv: (tokens, (heads + 2 kv_heads) * head_dim). turns: cos and sin of every position, (positions, head_dim). keys,
    values: (rows, kv_heads, head_dim).
    """
    tokens = qkv.shape[0]
    query = torch.empty((tokens, layer.heads, layer.head_dim), dtype=qkv.dtype, device=qkv.device)
    normed = layer.q_norm is not None and layer.k_norm is not None
    q_weight = layer.q_norm.weight if layer.q_norm is not None else qkv
    k_weight = layer.k_norm.weight if layer.k_norm is not None else qkv
    kernels.rotate_and_keep_kernel[(tokens, triton.cdiv(layer.heads + 2 * layer.kv_heads, HEAD_BLOCK))](
        qkv.contiguous(),
        *turns,
        q_weight,
        k_weight,
        query,
        keys,
        values,
        places.table,
        places.slots,
        places.positions,
        layer.q_norm.eps if layer.q_norm is not None else 0.0,
        places.table.shape[1],
        HEADS=layer.heads,
        KV_HEADS=layer.kv_heads,
        DIM=layer.head_dim,
        HEAD_BLOCK=HEAD_BLOCK,
        HALF_BLOCK=triton.next_power_of_2(layer.head_dim // 2),
        NORM=normed,
        OFFSET=bool(layer.q_norm is not None and layer.q_norm.offset),
        num_warps=4,
    )
    return query


def decode_attention(
    layer: Layer, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, places: Places
) -> torch.Tensor:
    """(tokens, heads * head_dim): each token attends to its slot's positions up to its own."""
    out = torch.empty_like(query)
    kernels.decode_attention_kernel[(query.shape[0], layer.kv_heads)](
        query,
        keys,
        values,
        places.table,
        places.slots,
        places.positions,
        out,
        layer.scale,
        places.table.shape[1],
        layer.window or NO_WINDOW,
        layer.cap or 0.0,
        HEADS=layer.heads,
        KV_HEADS=layer.kv_heads,
        DIM=layer.head_dim,
        DIM_BLOCK=max(16, triton.next_power_of_2(layer.head_dim)),
        BLOCK=_block(query.dtype, layer.head_dim),
        CAPPED=layer.cap is not None,
        PRECISION=_precision(query.dtype),
        num_warps=2,
        num_stages=2,
    )
    return out.view(query.shape[0], -1)


def prefill_attention(
    layer: Layer,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    slots: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """(tokens, heads * head_dim) of prompts that stand end to end. slots, starts, lengths: (sequences,) int32, where
    each stands in `query`; longest: the largest length."""
    out = torch.empty_like(query)
    block = _block(query.dtype, layer.head_dim)
    kernels.prefill_attention_kernel[(slots.shape[0], layer.heads, triton.cdiv(longest, block))](
        query,
        keys,
        values,
        table,
        slots,
        starts,
        lengths,
        out,
        layer.scale,
        table.shape[1],
        layer.window or NO_WINDOW,
        layer.cap or 0.0,
        HEADS=layer.heads,
        KV_HEADS=layer.kv_heads,
        DIM=layer.head_dim,
        DIM_BLOCK=max(16, triton.next_power_of_2(layer.head_dim)),
        BLOCK_Q=block,
        BLOCK=32,
        CAPPED=layer.cap is not None,
        PRECISION=_precision(query.dtype),
    )
    return out.view(query.shape[0], -1)


def _block(dtype: torch.dtype, head_dim: int) -> int:
    """Positions at a time, so that keys and values fit in shared memory."""
    return 64 if dtype.itemsize * head_dim <= 256 else 32


def _precision(dtype: torch.dtype) -> str:
    return "ieee" if dtype == torch.float32 else "tf32"
