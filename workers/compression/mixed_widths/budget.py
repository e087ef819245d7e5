"""A budget of mixed widths in bytes, the options that compete for it, and what to say when nothing fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from search_spaces.errors import CandidateError
from search_spaces.methods.quantizers import MixedWidths
from search_spaces.parameters import WIDTHS
from search_spaces.sizes.quantized import BUDGETED_EMBEDDINGS, after_mixed
from search_spaces.sizes.tensor_table import Checkpoint
from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options, isotonic, possible_totals
from workers.compression.mixed_widths.sensitivity import Sensitivity
from workers.compression.mixed_widths.width_groups import EMBEDDINGS

# How far below the predicted bytes the written ones may lie, as a share.
UNUSED = 0.003
MOST_OPTIONS = len(WIDTHS)


def competing(profile: Sequence[Sensitivity], step: MixedWidths) -> list[Sensitivity]:
    """The groups that the step gives widths to."""
    return [one for one in profile if step.embeddings or not one.group.is_embeddings]


def options_of(groups: Sequence[Sensitivity], score: str) -> Options:
    """Harm by this score, never less for a smaller width, and bytes; a row a group, its widths falling."""
    harm = np.full((len(groups), MOST_OPTIONS), np.inf)
    size = np.zeros((len(groups), MOST_OPTIONS), dtype=np.int64)
    for row, one in enumerate(groups):
        harm[row, : len(one.group.bytes)] = [one.scores[score][bits] for bits in one.group.bytes]
        size[row, : len(one.group.bytes)] = list(one.group.bytes.values())
    return Options(isotonic(harm), size)


def window_of(checkpoint: Checkpoint, groups: Sequence[Sensitivity], step: MixedWidths) -> ByteRange:
    """What the groups may take so that the folder has the bytes that `after_mixed` predicts, or up to 0.3 % less."""
    below = replace(step, bits=float(max(width for width in WIDTHS if width <= step.bits)))
    rest = after_mixed(checkpoint, below).bytes - sum(one.group.bytes[_uniform(one, below)] for one in groups)
    budget = after_mixed(checkpoint, step).bytes
    return ByteRange(int(budget * (1 - UNUSED)) - rest, budget - rest)


def chosen_widths(groups: Sequence[Sensitivity], allocation: Allocation) -> dict[str, int]:
    """Weight name -> bits; the embeddings stand under EMBEDDINGS."""
    widths: dict[str, int] = {}
    for one, option in zip(groups, allocation, strict=True):
        bits = list(one.group.bytes)[option]
        names = (EMBEDDINGS,) if one.group.is_embeddings else one.group.weights
        widths.update(dict.fromkeys(names, bits))
    return widths


def refuse_budget(
    checkpoint: Checkpoint, groups: Sequence[Sensitivity], options: Options, step: MixedWidths
) -> CandidateError:
    """The error for a budget that no allocation fills: which ones just below and above it can be filled."""
    window = window_of(checkpoint, groups, step)
    totals = possible_totals(options, window.high)
    near = [f"{_bits_of(total, checkpoint, groups, step):.4f}" for total in totals if total is not None]
    return CandidateError(
        f"mixed.bits={step.bits}: no choice of widths takes between {window.low} and {window.high} bytes, because the "
        f"model has only {len(groups)} groups of weights to choose for; possible budgets nearby: {' and '.join(near)}"
    )


def _uniform(one: Sensitivity, step: MixedWidths) -> int:
    return BUDGETED_EMBEDDINGS if one.group.is_embeddings else int(step.bits)


def _bits_of(total: int, checkpoint: Checkpoint, groups: Sequence[Sensitivity], step: MixedWidths) -> float:
    """The budget that a total of bytes is, by the lines between neighbouring widths."""
    sizes: Mapping[int, int] = {
        bits: window_of(checkpoint, groups, replace(step, bits=float(bits))).high for bits in sorted(WIDTHS)
    }
    return float(np.interp(total, list(sizes.values()), list(sizes)))
