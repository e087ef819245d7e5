"""Activation-aware quantization: channels are scaled up by how large their activations are, then rounded (AWQ)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from search_spaces.checkpoint import text_config
from search_spaces.quantizers import ActivationAware
from workers.calibration.calibrate import statistics_of
from workers.calibration.statistics import Statistics
from workers.compression.channel_scales import Choice, Masked, choose, scaled_hessian
from workers.compression.clipping import quantize_clipped
from workers.compression.context import CompressionContext, Report
from workers.compression.folder import dense_tensors
from workers.compression.folding import ONE_PLUS_WEIGHT, Folding, Seam, folded_norm, seams
from workers.compression.grid import QuantizedWeight
from workers.compression.quantizing import write_quantized
from workers.model_files import read_checkpoint


def compress(parent: Path, out: Path, step: ActivationAware, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`, by the parent's calibration statistics.

    Raises CandidateError for a model that is not of the Llama kind, and what `statistics_of` raises.
    """
    statistics = statistics_of(parent, context)
    folding, choices = search(parent, step, statistics, context.device)

    # Weights that share an input mostly follow one another, with o_proj between them.
    @lru_cache(maxsize=2)
    def hessian(first: str) -> torch.Tensor:
        return scaled_hessian(statistics.hessian(first, context.device), folding.columns[first])

    def one(name: str, weight: torch.Tensor, mask: torch.Tensor | None) -> QuantizedWeight:
        shared = hessian(statistics.shares_input(name)[0])
        return quantize_clipped(weight, shared, step.bits, step.group_size, step.symmetric, mask)

    report = write_quantized(parent, out, one, context, folding.change)
    return replace(report, notes=tuple(_notes(choices)))


def search(
    parent: Path, step: ActivationAware, statistics: Statistics, device: torch.device
) -> tuple[Folding, dict[Seam, Choice]]:
    """The scales for every seam of the model, and how each was chosen. Memory: the weights of one layer (two where
    shards part a layer) and one Hessian."""
    checkpoint = read_checkpoint(parent)
    offset = 1.0 if text_config(checkpoint.config).get("model_type") in ONE_PLUS_WEIGHT else 0.0
    folding = Folding()
    choices: dict[Seam, Choice] = {}
    for seam, found in gathered(parent, seams(checkpoint, statistics), device):
        norm = found[f"{seam.writer}.weight"][0] if seam.is_norm else None
        to_columns = seam.to_columns if norm is None else partial(_columns_of_norm, norm, offset)
        choice = choose(
            [found[name] for name in seam.readers],
            statistics.hessian(seam.readers[0], device),
            seam.to_channels(statistics.magnitude(seam.readers[0], device)),
            step,
            to_columns,
        )
        folding.add(seam, choice.channels, norm, offset)
        choices[seam] = choice
    return folding, choices


def _columns_of_norm(norm: torch.Tensor, offset: float, channels: torch.Tensor) -> torch.Tensor:
    return folded_norm(norm, channels, offset)[1]


def gathered(parent: Path, found: Sequence[Seam], device: torch.device) -> Iterator[tuple[Seam, dict[str, Masked]]]:
    """Each seam with its readers (and its norm) by name, as soon as the checkpoint's files have shown them all."""
    missing = {seam: {*seam.readers, *([f"{seam.writer}.weight"] if seam.is_norm else [])} for seam in found}
    seam_of = {name: seam for seam, names in missing.items() for name in names}
    held: dict[Seam, dict[str, Masked]] = {seam: {} for seam in found}
    for name, tensor, mask in dense_tensors(parent, device):
        if name not in seam_of:
            continue
        seam = seam_of[name]
        held[seam][name] = tensor, mask
        if held[seam].keys() == missing[seam]:
            yield seam, held.pop(seam)


def _notes(choices: dict[Seam, Choice]) -> Iterator[str]:
    """For each kind of seam, the mean exponent over the layers and what it left of the output error."""
    by_kind: dict[str, list[Choice]] = {}
    for seam, choice in choices.items():
        by_kind.setdefault(" ".join(name.split(".")[-2] for name in seam.readers), []).append(choice)
    for kind, group in by_kind.items():
        exponent = sum(choice.exponent for choice in group) / len(group)
        before = sum(choice.unscaled_error for choice in group)
        left = sum(choice.error for choice in group) / before if before else 1.0
        yield f"{kind}: mean exponent {exponent:.2f}, {left:.1%} of the output error without scales"
