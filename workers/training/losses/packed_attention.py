"""Attention over sequences that lie one behind another, without padding: each token sees those before it in its own.

The kernel is torch's flash attention of varying lengths, https://docs.pytorch.org/docs/stable/nn.attention.varlen.html;
a CPU asks its own kernel of one sequence after another. Transformers hands a decoder's keyword arguments on to its
attention, so the sequences' ends travel with the call, and are there again where activations are made anew.
"""

from __future__ import annotations

import inspect
import logging
from itertools import pairwise
from typing import Any

import torch

from workers.training.data.batches import Packing
from workers.training.fused.evaluating import evaluating

NAME = "packed"
# Of the hidden states' lengths, on average. Another kernel's bfloat16 is apart by about 0.01, a foreign sequence by 1.
TOLERANCE = 0.1
_LENGTHS = (5, 9)

_log = logging.getLogger(__name__)


def sequence_arguments(packing: Packing) -> dict[str, Any]:
    """The keyword arguments of a decoder that tell its attention where sequences end."""
    return {
        "position_ids": packing.positions[None],
        "cu_seq_lens_q": packing.ends,
        "cu_seq_lens_k": packing.ends,
        "max_length_q": packing.longest,
        "max_length_k": packing.longest,
    }


def take_up(readout: Any) -> bool:
    """Have the model of a `Readout` attend so, if it can, whenever it is told where sequences end.

    It can where it attends by torch's kernel through transformers' registry, and says the same of two sequences behind
    one another as of each alone; else it stays as it is, with a warning where that was not to be foreseen.
    """
    model = readout.model
    if readout.device.type == "cuda" and not _has_kernel():
        return False
    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return False
    _register()
    model.set_attn_implementation(NAME)
    apart = _apart(readout)
    if apart <= TOLERANCE:
        return True
    model.set_attn_implementation("sdpa")
    _log.warning(
        "training goes on with padding: %s sees other sequences where they lie behind one another", type(model).__name__
    )
    return False


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls (its AttentionInterface). query, key, value: (1, heads, tokens, width), key and value
    perhaps of fewer heads. cu_seq_lens_q: int32, 0 and where each sequence ends; without it, its kernel for batches of
    sequences padded on the right. Answers (1, tokens, heads, width)."""
    if cu_seq_lens_q is None or max_length_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and sliding_window is not None:
            attention_mask = _seen(query.shape[2], sliding_window, query.device)[None, None]
        answer: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return answer
    groups = query.shape[1] // key.shape[1]
    if query.device.type != "cuda":
        said = _one_by_one(query, key, value, cu_seq_lens_q.tolist(), groups, scaling, sliding_window)
        return said.transpose(1, 2), None
    from torch.nn.attention.varlen import varlen_attn

    # Norms of queries and keys may leave float32, which the kernel does not take.
    flat = [one[0].transpose(0, 1).to(value.dtype) for one in (query, key, value)]
    more: dict[str, Any] = {}
    if groups > 1 and "enable_gqa" in inspect.signature(varlen_attn).parameters:
        more["enable_gqa"] = True
    elif groups > 1:
        flat[1:] = [one.repeat_interleave(groups, 1) for one in flat[1:]]
    before = -1 if sliding_window is None else sliding_window - 1
    said = varlen_attn(
        *flat,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(before, 0),
        **more,
    )
    return said[None], None


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: list[int],
    groups: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    said = []
    for start, end in pairwise(ends):
        here = [one[:, :, start:end] for one in (query, key, value)]
        seen = _seen(end - start, window, query.device)
        said.append(
            torch.nn.functional.scaled_dot_product_attention(
                *here, attn_mask=seen, scale=scaling, enable_gqa=groups > 1
            )
        )
    return torch.cat(said, dim=2)


def _seen(tokens: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Which tokens (columns) each token sees: itself and those before it, of a window's length if there is one."""
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)


def _register() -> None:
    from transformers import AttentionInterface

    # Transformers makes no mask for a name that has none of its own.
    AttentionInterface.register(NAME, attention)


def _has_kernel() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters


@torch.no_grad()
def _apart(readout: Any) -> float:
    """How far hidden states of sequences behind one another are from those of each alone, of their length, mean."""
    device = readout.device
    rows = [torch.arange(1, length + 1, device=device) % readout.vocabulary for length in _LENGTHS]
    ends = torch.tensor([0, _LENGTHS[0], sum(_LENGTHS)], dtype=torch.int32, device=device)
    positions = torch.cat([torch.arange(length, device=device) for length in _LENGTHS])
    packing = Packing(torch.arange(sum(_LENGTHS), device=device), positions, ends, max(_LENGTHS))
    enabled = device.type == "cuda"
    with evaluating(readout.model), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        together = readout.states(torch.cat(rows)[None], packing)[0].float()
        alone = torch.cat([readout.states(row[None])[0] for row in rows]).float()
    return float(((together - alone).norm(dim=-1) / alone.norm(dim=-1).clamp(min=1e-6)).mean())
