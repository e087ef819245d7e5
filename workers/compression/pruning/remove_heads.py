"""Removal of the key-value groups that are cheapest to do without, the others' weights made up for them.

A group is a key-value head and the query heads that read it: rows of the query, key and value projections, and the
columns of the output projection that read its query heads. Which go is decided by backward elimination on the
calibration Hessian of the output projection's input; see `compensation`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import RemoveHeads
from search_spaces.sizes.pruned import after_remove_heads, head_shape
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.pruning.compensation import compensate, keep_groups
from workers.compression.pruning.narrowing import Cut, layers_of, stored_tensor, write_narrowed
from workers.plan.compression_context import CompressionContext, Report

QUERY, KEY, VALUE = (f"self_attn.{letter}_proj" for letter in "qkv")
OUT = "self_attn.o_proj.weight"


def compress(parent: Path, out: Path, step: RemoveHeads, context: CompressionContext) -> Report:
    """Write the checkpoint with `step.groups` key-value groups fewer in every layer to `out`, as transformers loads it.

    Raises CandidateError for a model whose attention is built otherwise, StudyError for one that can't be calibrated.
    """
    before = read_checkpoint(parent)
    after = after_remove_heads(before, step)
    heads, groups, size = head_shape(before)
    _refuse_other_tensors(parent, heads, groups, size)
    wide = heads // groups * size
    statistics = statistics_of(parent, context)
    dampings = Dampings(statistics.tokens)

    def cut(prefix: str) -> Cut:
        weight = stored_tensor(parent, prefix + OUT, context.device)
        hessian = statistics.hessian(prefix + OUT, context.device)
        kept = keep_groups(weight, hessian, groups - step.groups, wide, dampings.hear)
        found = compensate(weight, hessian, members(kept, wide), statistics.tokens)
        narrow = members(kept, size)
        gone = sorted(set(range(groups)) - set(kept.tolist()))
        return Cut(
            {QUERY: found.kept, KEY: narrow, VALUE: narrow},
            {OUT: found.weight.to(weight.dtype)},
            f"{prefix.rstrip('.')}: key-value groups removed: {', '.join(map(str, gone))} "
            f"({found.error:.2%} of the attention's mean square output lost on the calibration set)",
        )

    return write_narrowed(parent, out, after.config, cut, context).with_notes(dampings.notes())


def members(groups: torch.Tensor, size: int) -> torch.Tensor:
    """The positions that groups of `size` consecutive ones stand for: int64 (groups · size,)."""
    return (groups[:, None] * size + torch.arange(size, device=groups.device)).flatten()


def _refuse_other_tensors(folder: Path, heads: int, groups: int, size: int) -> None:
    """Raise CandidateError for attention of another shape, or with a further tensor that is not one for all heads."""
    rows = {QUERY: heads * size, KEY: groups * size, VALUE: groups * size}
    for prefix, tensors in layers_of(folder).items():
        for name, shape in tensors.items():
            stem = name.removesuffix(".weight").removesuffix(".bias")
            if stem in rows and shape[0] != rows[stem]:
                raise CandidateError(
                    f"remove_heads: {prefix}{name} has {shape[0]} rows where {heads} heads in {groups} groups of width "
                    f"{size} make {rows[stem]}; only models with such heads in all layers can lose some"
                )
            if stem in rows or not name.startswith("self_attn.") or stem == OUT.removesuffix(".weight"):
                continue
            if "rotary_emb" not in name and shape != (size,):
                raise CandidateError(
                    f"remove_heads: {prefix}{name} of shape {tuple(shape)} is not one for all heads, and can't "
                    "be cut. Use remove_layers or remove_channels"
                )
