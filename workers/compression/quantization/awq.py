"""Activation-aware quantization: channels are scaled up by how large their activations are, then rounded (AWQ)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from search_spaces.methods.quantizers import AWQ
from search_spaces.sizes.tensor_table import text_config
from workers.calibration.calibrate import statistics_of
from workers.calibration.output_error import row_errors
from workers.calibration.statistics import Statistics
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.quantization.clipping import on_kernels, quantize_clipped
from workers.compression.quantization.write_quantized import write_quantized
from workers.compression.scale_folding import ONE_PLUS_WEIGHT, Folding, ScaleMapping, folded_norm, mappings
from workers.plan.compression_context import CompressionContext, Report
from workers.runtime.working import working
from workers.stored_forms.checkpoint import dense_tensors
from workers.stored_forms.integer_grid import QuantizedWeight, fit_grid, refuse_not_finite, to_integers

# Exponents of the activations' magnitude. 0, no scaling, comes first and wins ties.
EXPONENTS = tuple(step / 19 for step in range(20))
# Channels that are hardly ever used are scaled as though they had this share of the largest magnitude.
LEAST_MAGNITUDE = 1e-4
# A weight and the mask of a sparse one.
Masked = tuple[torch.Tensor, torch.Tensor | None]
Wrong = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def compress(parent: Path, out: Path, step: AWQ, context: CompressionContext) -> Report:
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
        return quantize_clipped(
            weight, shared, bits=step.bits, group_size=step.group_size, symmetric=step.symmetric, mask=mask
        )

    report = write_quantized(parent, out, one, context, folding.change)
    return replace(report, notes=tuple(_notes(choices)))


def search(
    parent: Path, step: AWQ, statistics: Statistics, device: torch.device
) -> tuple[Folding, dict[ScaleMapping, MappingScales]]:
    """The scales for every mapping of the model, and how each was chosen. Memory: the weights of one layer (two where
    shards part a layer) and one Hessian."""
    checkpoint = read_checkpoint(parent)
    offset = 1.0 if text_config(checkpoint.config).get("model_type") in ONE_PLUS_WEIGHT else 0.0
    folding = Folding()
    choices: dict[ScaleMapping, MappingScales] = {}
    every = mappings(checkpoint, statistics)
    for mapping, found in gather_mappings(parent, every, device):
        working("searching scales, input", len(choices) + 1, len(every))
        norm = found[f"{mapping.writer}.weight"][0] if mapping.is_norm else None
        to_columns = mapping.to_columns if norm is None else partial(_columns_of_norm, norm, offset)
        choice = choose(
            [found[name] for name in mapping.readers],
            statistics.hessian(mapping.readers[0], device),
            mapping.to_channels(statistics.magnitude(mapping.readers[0], device)),
            step,
            to_columns,
        )
        folding.add(mapping, choice.channels, norm, offset)
        choices[mapping] = choice
    return folding, choices


def _columns_of_norm(norm: torch.Tensor, offset: float, channels: torch.Tensor) -> torch.Tensor:
    return folded_norm(norm, channels, offset)[1]


def gather_mappings(
    parent: Path, found: Sequence[ScaleMapping], device: torch.device
) -> Iterator[tuple[ScaleMapping, dict[str, Masked]]]:
    """Each mapping with its readers (and its norm) by name, as soon as the checkpoint's files have shown them all."""
    missing = {
        mapping: {*mapping.readers, *([f"{mapping.writer}.weight"] if mapping.is_norm else [])} for mapping in found
    }
    seam_of = {name: mapping for mapping, names in missing.items() for name in names}
    held: dict[ScaleMapping, dict[str, Masked]] = {mapping: {} for mapping in found}
    for name, tensor, mask in dense_tensors(parent, device):
        if name not in seam_of:
            continue
        mapping = seam_of[name]
        held[mapping][name] = tensor, mask
        if held[mapping].keys() == missing[mapping]:
            yield mapping, held.pop(mapping)


def _notes(choices: dict[ScaleMapping, MappingScales]) -> Iterator[str]:
    """For each kind of mapping, the mean exponent over the layers and what it left of the output error."""
    by_kind: dict[str, list[MappingScales]] = {}
    for mapping, choice in choices.items():
        by_kind.setdefault(" ".join(name.split(".")[-2] for name in mapping.readers), []).append(choice)
    for kind, group in by_kind.items():
        exponent = sum(choice.exponent for choice in group) / len(group)
        before = sum(choice.unscaled_error for choice in group)
        left = sum(choice.error for choice in group) / before if before else 1.0
        yield f"{kind}: mean exponent {exponent:.2f}, {left:.1%} of the output error without scales"


@dataclass(frozen=True, slots=True)
class MappingScales:
    """The scales of one mapping."""

    exponent: float
    """One of `EXPONENTS`."""
    channels: torch.Tensor
    """Scales of the writer's channels, float32."""
    columns: torch.Tensor
    """Scales of the readers' columns, float32."""
    error: float
    """Round-to-nearest's output error with these scales."""
    unscaled_error: float
    """Round-to-nearest's output error without scales."""


def choose(
    weights: Sequence[Masked],
    hessian: torch.Tensor,
    magnitude: torch.Tensor,
    step: AWQ,
    to_columns: Callable[[torch.Tensor], torch.Tensor] = lambda channels: channels,
) -> MappingScales:
    """The exponent that leaves the least output error, tr((W - Ŵ) H (W - Ŵ)ᵀ) summed over the weights that share an
    input, with Ŵ = Q(W diag(s)) diag(1/s) (https://arxiv.org/abs/2306.00978 eq. 4 and 5).

    Q is round-to-nearest as in the paper; scales that lose to none once both are clipped are not taken.
    magnitude: mean |activation|, float32 (channels,). to_columns: from the scales of channels to those of columns,
    float32 (columns,). Raises ValueError for a weight that is not finite.
    """

    def nearest(weight: torch.Tensor, columns: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return rounding_error(weight, columns, step, mask)

    for weight, _ in weights:
        refuse_not_finite(weight)
    tried = [scales_of(magnitude, exponent) for exponent in EXPONENTS]
    errors = torch.stack([output_error(weights, hessian, to_columns(channels), nearest) for channels in tried]).tolist()
    best = min(range(len(tried)), key=errors.__getitem__)
    if best:
        scaled, unscaled = (
            output_error(weights, hessian, to_columns(channels), _clipping(hessian, to_columns(channels), step))
            for channels in (tried[best], tried[0])
        )
        best = best if bool(scaled < unscaled) else 0
    return MappingScales(EXPONENTS[best], tried[best], to_columns(tried[best]), errors[best], errors[0])


def scales_of(magnitude: torch.Tensor, exponent: float) -> torch.Tensor:
    """magnitude^exponent over the root of its largest times its least value; 1 everywhere for the exponent 0."""
    largest = magnitude.max()
    if largest == 0:
        return torch.ones_like(magnitude)
    powers = (magnitude / largest).clamp(min=LEAST_MAGNITUDE).pow(exponent)
    return powers / (powers.max() * powers.min()).sqrt()


def rounding_error(weight: torch.Tensor, columns: torch.Tensor, step: AWQ, mask: torch.Tensor | None) -> torch.Tensor:
    """W - Ŵ of round-to-nearest under these column scales, float32 (rows, columns). weight: finite."""
    if on_kernels(weight, step.group_size):
        from workers.compression.kernels.awq_kernels import rounding_error_on_gpu

        return rounding_error_on_gpu(weight, columns, step.bits, step.group_size, step.symmetric, mask)
    scaled = weight.float() * columns
    grid = fit_grid(scaled, step.bits, step.group_size, step.symmetric, finite=True)
    stored = QuantizedWeight(to_integers(scaled, grid, step.bits), grid, step.bits, mask)
    return weight.float() - stored.dequantized() / columns


def _clipping(hessian: torch.Tensor, columns: torch.Tensor, step: AWQ) -> Wrong:
    """W - Ŵ where the scaled weight's groups are clipped."""
    scaled = scaled_hessian(hessian, columns)

    def wrong(weight: torch.Tensor, columns: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        stored = quantize_clipped(
            weight.float() * columns,
            scaled,
            bits=step.bits,
            group_size=step.group_size,
            symmetric=step.symmetric,
            mask=mask,
        )
        return weight.float() - stored.dequantized() / columns

    return wrong


def output_error(weights: Sequence[Masked], hessian: torch.Tensor, columns: torch.Tensor, wrong: Wrong) -> torch.Tensor:
    """Mean over tokens of the squared error of all outputs, with these column scales: float64, on the device.

    wrong: (weight, column scales, mask) -> weight - stored weight.
    """
    total = torch.zeros((), dtype=torch.float64, device=hessian.device)
    for weight, mask in weights:
        total += row_errors(wrong(weight, columns, mask), hessian).sum(dtype=torch.float64)
    return total


def scaled_hessian(hessian: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The Hessian of an input that is divided by these scales."""
    return hessian / columns / columns[:, None]
