"""Which channels of the residual stream and of the MLPs a smaller student can least do without, on training pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from search_spaces.errors import CandidateError
from workers.calibration.capture import LayerSums, capture
from workers.calibration.damping import Dampings
from workers.calibration.sequences import Shown, batches
from workers.compression.pruning.compensation import compensate, keep_columns
from workers.compression.pruning.narrowing import layers_of, stored_tensor
from workers.loading.load import load_for_calibration
from workers.plan.compression_context import CompressionContext
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs

TOKENS = 65_536
# Linear layers that read what the norms before attention and MLP write.
AFTER_NORMS = ("self_attn.q_proj.weight", "mlp.gate_proj.weight")
DOWN = "mlp.down_proj.weight"


@dataclass(slots=True)
class Important:
    """What a student keeps. hidden: int64, rising, the residual channels that stay; None for all. channels: the
    parent's layer -> the MLP channels that stay, int64, rising. down: the parent's layer -> what its down projection
    becomes over them, (hidden, channels), the others made up for. notes: of the Hessians that channels went by."""

    hidden: torch.Tensor | None = None
    channels: dict[int, torch.Tensor] = field(default_factory=dict)
    down: dict[int, torch.Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def important(
    parent: Path, hidden: int, channels: int, pairs: TokenizedPairs, batch: int, context: CompressionContext
) -> Important:
    """The `hidden` residual channels and, in every layer, the `channels` MLP channels to keep; 0 is all of them.

    Residual channels: largest mean magnitude behind the norms, added up over all of them (Minitron, Muralidharan et al.
    2024, https://arxiv.org/abs/2407.14679 §2.2). MLP channels as `remove_channels` has them. One pass over about 65,536
    tokens of training pairs, as training will read them. Raises CandidateError for layers built otherwise.
    """
    if not hidden and not channels:
        return Important()
    found = Important()
    magnitude: torch.Tensor | None = None
    dampings: Dampings | None = None
    prefixes = list(layers_of(parent))
    model = load_for_calibration(parent, context.device, context.trust_remote_code)
    sequences = list(_first(pairs, batch, context.seed))
    for sums in capture(model, batches(sequences), context.device):
        if missing := [name for name in (*AFTER_NORMS, DOWN) if name not in sums.keys]:
            raise CandidateError(
                f"distill.width and channels need layers like Llama's, Mistral's, Gemma's and Qwen's, and layer "
                f"{sums.index} has no {missing[0]}; choose layers alone"
            )
        read = sum((_magnitude(sums, name) for name in AFTER_NORMS), torch.zeros((), device=context.device))
        magnitude = read if magnitude is None else magnitude + read
        if channels:
            hessian = sums.inputs[sums.keys[DOWN]].hessian / sums.tokens
            weight = stored_tensor(parent, prefixes[sums.index] + DOWN, context.device)
            dampings = dampings or Dampings(sums.tokens)
            stay = keep_columns(weight, hessian, channels, dampings.hear)
            kept = compensate(weight, hessian, stay, sums.tokens)
            found.channels[sums.index] = kept.kept.cpu()
            found.down[sums.index] = kept.weight.to(weight.dtype).cpu()
    if hidden and magnitude is not None:
        found.hidden = magnitude.argsort(descending=True, stable=True)[:hidden].sort().values.cpu()
    found.notes = dampings.notes() if dampings else ()
    return found


def _magnitude(sums: LayerSums, name: str) -> torch.Tensor:
    """Mean |x| of what the weight reads, float32 (columns,)."""
    return sums.inputs[sums.keys[name]].magnitude / sums.tokens


def _first(pairs: TokenizedPairs, batch: int, seed: int) -> Iterator[Shown]:
    """The sequences that training reads first, until there are tokens enough; each once."""
    tokens, seen, step = 0, set[int](), 0
    while tokens < min(TOKENS, pairs.tokens) and len(seen) < len(pairs) and step < TOKENS:
        for row in choose_rows(pairs, step, batch, seed):
            if row not in seen and tokens < TOKENS:
                seen.add(row)
                tokens += pairs.length(row)
                yield pairs.shown(row)
        step += 1
