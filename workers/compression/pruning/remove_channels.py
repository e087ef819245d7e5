"""Removal of the MLP channels that are cheapest to do without, the others' weights made up for them by least squares.

A channel is a row of the gate and up projections and the column of the down projection that reads it. Which go is
decided by backward elimination on the calibration Hessian of the down projection's input; see `compensation`.
"""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import RemoveChannels
from search_spaces.sizes.pruned import after_remove_channels
from search_spaces.sizes.tensor_table import text_config
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.pruning.compensation import compensate, elimination, keep_columns
from workers.compression.pruning.narrowing import Cut, layers_of, stored_tensor, write_narrowed
from workers.plan.compression_context import CompressionContext, Report

DOWN = "mlp.down_proj.weight"
READING = ("mlp.gate_proj", "mlp.up_proj")


def compress(parent: Path, out: Path, step: RemoveChannels, context: CompressionContext) -> Report:
    """Write the checkpoint with `step.kept(width)` channels in every MLP to `out`, as transformers loads it.

    Raises CandidateError for a model whose MLPs are built otherwise, StudyError for one that can't be calibrated.
    """
    before = read_checkpoint(parent)
    after = after_remove_channels(before, step)
    width = text_config(before.config)["intermediate_size"]
    _refuse_other_tensors(parent, width)
    count = step.kept(width)
    statistics = statistics_of(parent, context)
    dampings = Dampings(statistics.tokens)
    errors: dict[str, float] = {}
    rounds = elimination()

    def cut(prefix: str) -> Cut:
        weight = stored_tensor(parent, prefix + DOWN, context.device)
        hessian = statistics.hessian(prefix + DOWN, context.device)
        kept = keep_columns(weight, hessian, count, dampings.hear, rounds)
        found = compensate(weight, hessian, kept, statistics.tokens)
        errors[prefix] = found.error
        return Cut(dict.fromkeys(READING, found.kept), {DOWN: found.weight.to(weight.dtype)})

    report = write_narrowed(parent, out, after.config, cut, context)
    mean = sum(errors.values()) / len(errors)
    worst = max(errors, key=lambda prefix: errors[prefix])
    return Report(
        report.targeted,
        report.changed,
        (
            f"MLP channels: {width} -> {count}",
            f"share of the MLPs' mean square output lost on the calibration set: {mean:.2%} on average, "
            f"{errors[worst]:.2%} at most ({worst.rstrip('.')})",
            *dampings.notes(),
        ),
    )


def _refuse_other_tensors(folder: Path, width: int) -> None:
    """Raise CandidateError for an MLP of another width, or with a further tensor that goes by channel."""
    known = {f"{stem}.{part}" for stem in READING for part in ("weight", "bias")}
    for prefix, tensors in layers_of(folder).items():
        for name, shape in tensors.items():
            if name in known and shape[0] != width:
                raise CandidateError(
                    f"remove_channels: {prefix}{name} has {shape[0]} rows where config.json's intermediate_size is "
                    f"{width}; only models with one width in all layers can be narrowed"
                )
            if name.startswith("mlp.") and name not in {*known, DOWN} and width in shape:
                raise CandidateError(
                    f"remove_channels: {prefix}{name} of shape {shape} goes by channel, and can't be "
                    "narrowed; use remove_layers or a sparsifier"
                )
