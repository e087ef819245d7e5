"""GPTQ with a width for each group of weights, chosen so that the model is harmed least within a budget of bytes.

The budget is filled by an exact solver over a profile of single groups (see sensitivity.py and allocation.py); with
the score "kl" swaps measured on the whole model follow (see swaps.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from search_spaces.methods.quantizers import MixedWidths
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings, unheard
from workers.calibration.divergence import Divergence, measuring_batches
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.mixed_widths.allocation import Allocation, allocate
from workers.compression.mixed_widths.budget import chosen_widths, competing, options_of, refuse_budget, window_of
from workers.compression.mixed_widths.group_quantizing import GPTQ_DEFAULTS
from workers.compression.mixed_widths.measured_model import MeasuredModel
from workers.compression.mixed_widths.quantized_groups import QuantizedGroups
from workers.compression.mixed_widths.sensitivity import Sensitivity, profile_of
from workers.compression.mixed_widths.swaps import improve
from workers.compression.mixed_widths.width_groups import AS_IS, EMBEDDINGS
from workers.compression.quantization import gptq, rtn
from workers.compression.quantization.write_quantized import Quantize, write_quantized
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.single_weights import StoredWeights, with_sparse_columns


def compress(parent: Path, out: Path, step: MixedWidths, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`.

    Raises CandidateError for a budget that no choice of widths fills, StudyError without a store or enough pairs.
    """
    checkpoint = with_sparse_columns(read_checkpoint(parent), StoredWeights(parent, torch.device("cpu")))
    dampings, quantized = Dampings(statistics_of(parent, context).tokens), QuantizedGroups(context.device)
    profile = profile_of(parent, checkpoint, step, context, quantized, dampings.hear)
    groups = competing(profile, step)
    options = options_of(groups, step.score)
    window = window_of(checkpoint, groups, step)
    allocation = allocate(options, window)
    if allocation is None:
        raise refuse_budget(checkpoint, groups, options, step)
    notes = [f"budget {window.high} bytes, filled with {options.total(allocation)}"]
    quantize: Quantize
    if step.score == "kl":
        running = _running(parent, groups, step, context, quantized, dampings)
        improved = improve(allocation, options, window, running.measure, running.settle)
        allocation, quantize = improved.allocation, lambda name, weight, mask: running.quantized(name)
        notes.append(
            f"KL {improved.before:.5f} before and {improved.after:.5f} after {improved.taken} swaps, "
            f"{improved.measured} measured"
        )
    else:
        plain = replace(GPTQ_DEFAULTS, group_size=step.group_size)
        widths = chosen_widths(groups, allocation)
        quantize = gptq.quantizer(
            statistics_of(parent, context), context.device, plain, widths.__getitem__, dampings.hear, step.symmetric_at
        )
    report = write_quantized(
        parent, out, quantize, context, embeddings=_rounding(chosen_widths(groups, allocation), step.group_size)
    )
    return Report(report.targeted, report.changed, (describe(groups, allocation), *notes, *dampings.notes()))


def describe(groups: Sequence[Sensitivity], allocation: Allocation) -> str:
    """The widths in short: how many groups have each, and what the embeddings have where they were given a width."""
    bits = [list(one.group.bytes)[option] for one, option in zip(groups, allocation, strict=True)]
    linear = Counter(width for one, width in zip(groups, bits, strict=True) if not one.group.is_embeddings)
    said = ", ".join(f"{count} groups at {width} bits" for width, count in sorted(linear.items(), reverse=True))
    vocabulary = [width for one, width in zip(groups, bits, strict=True) if one.group.is_embeddings]
    return f"widths: {said}" + "".join(f"; embeddings at {width}" for width in vocabulary)


def _rounding(widths: Mapping[str, int], group_size: int) -> Callable[[torch.Tensor], QuantizedWeight] | None:
    """How the embeddings are rounded; None where they have no width of their own."""
    bits = widths.get(EMBEDDINGS, AS_IS)
    return None if bits == AS_IS else partial(rtn.quantize, bits=bits, group_size=group_size)


def _running(
    parent: Path,
    groups: Sequence[Sensitivity],
    step: MixedWidths,
    context: CompressionContext,
    quantized: QuantizedGroups,
    dampings: Dampings,
) -> MeasuredModel:
    from workers.loading.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    model = load_model(parent, context.whole_on, context.trust_remote_code)
    return MeasuredModel(
        model=model,
        divergence=Divergence(model, measuring_batches(tokenizer, context)),
        weights=StoredWeights(parent, context.device),
        statistics=statistics_of(parent, context),
        groups=[one.group for one in groups],
        step=step,
        quantized_groups=quantized,
        # A profile that was taken now has told of every group.
        hear=unheard if dampings.heard else dampings.hear,
    )
