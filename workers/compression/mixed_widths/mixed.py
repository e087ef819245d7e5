"""GPTQ with a width for each group of weights, chosen so that the model is harmed least within a budget of bytes.

The budget is filled by an exact solver over a profile of single groups (see sensitivity.py and allocation.py); with
the score "kl" swaps measured on the whole model follow (see swaps.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from search_spaces.methods.quantizers import MixedWidths, QuantizeEmbeddings
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings
from workers.calibration.divergence import Divergence, measuring_batches
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.mixed_widths.allocation import Allocation, ByteRange, Options, allocate
from workers.compression.mixed_widths.budget import chosen_widths, competing, options_of, refuse_budget, window_of
from workers.compression.mixed_widths.measured_model import MeasuredModel
from workers.compression.mixed_widths.sensitivity import Sensitivity, profile_of
from workers.compression.mixed_widths.swaps import Improved, improve
from workers.compression.mixed_widths.width_groups import AS_IS, EMBEDDINGS
from workers.compression.quantization import embeddings, gptq
from workers.compression.quantization.write_quantized import write_quantized
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.single_weights import StoredWeights, with_sparse_columns


def compress(parent: Path, out: Path, step: MixedWidths, context: CompressionContext) -> Report:
    """Write the quantized checkpoint to `out`.

    Raises CandidateError for a budget that no choice of widths fills, StudyError without a store or enough pairs.
    """
    checkpoint = with_sparse_columns(read_checkpoint(parent), StoredWeights(parent, torch.device("cpu")))
    groups = competing(profile_of(parent, checkpoint, step.group_size, context), step)
    options = options_of(groups, step.score)
    window = window_of(checkpoint, groups, step)
    allocation = allocate(options, window)
    if allocation is None:
        raise refuse_budget(checkpoint, groups, options, step)
    notes = [f"budget {window.high} bytes, filled with {options.total(allocation)}"]
    if step.score == "kl":
        improved = _improve(
            parent, allocation, groups=groups, options=options, window=window, step=step, context=context
        )
        allocation = improved.allocation
        notes.append(
            f"KL {improved.before:.5f} before and {improved.after:.5f} after {improved.taken} swaps, "
            f"{improved.measured} measured"
        )
    widths = chosen_widths(groups, allocation)
    report = _write(parent, out, widths, step, context)
    return Report(report.targeted, report.changed, (describe(groups, allocation), *notes, *report.notes))


def describe(groups: Sequence[Sensitivity], allocation: Allocation) -> str:
    """The widths in short: how many groups have each, and what the embeddings have where they were given a width."""
    bits = [list(one.group.bytes)[option] for one, option in zip(groups, allocation, strict=True)]
    linear = Counter(width for one, width in zip(groups, bits, strict=True) if not one.group.is_embeddings)
    said = ", ".join(f"{count} groups at {width} bits" for width, count in sorted(linear.items(), reverse=True))
    vocabulary = [width for one, width in zip(groups, bits, strict=True) if one.group.is_embeddings]
    return f"widths: {said}" + "".join(f"; embeddings at {width}" for width in vocabulary)


def _improve(
    parent: Path,
    start: Allocation,
    groups: Sequence[Sensitivity],
    options: Options,
    window: ByteRange,
    step: MixedWidths,
    context: CompressionContext,
) -> Improved:
    from workers.loading.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    model = load_model(parent, context.whole_on, context.trust_remote_code)
    running = MeasuredModel(
        model=model,
        divergence=Divergence(model, measuring_batches(tokenizer, context)),
        weights=StoredWeights(parent, context.device),
        statistics=statistics_of(parent, context),
        groups=[one.group for one in groups],
        group_size=step.group_size,
    )
    return improve(start, options, window, running.measure, running.settle)


def _write(
    parent: Path, out: Path, widths: Mapping[str, int], step: MixedWidths, context: CompressionContext
) -> Report:
    """The layers first, then, where they have a width of their own, the embeddings."""
    statistics = statistics_of(parent, context)
    dampings = Dampings(statistics.tokens)

    def quantize(name: str, weight: torch.Tensor, mask: torch.Tensor | None) -> QuantizedWeight:
        hessian = statistics.hessian(name, context.device)
        return gptq.quantize(weight, hessian, widths[name], step.group_size, mask=mask, hear=dampings.hear)

    bits = widths.get(EMBEDDINGS, AS_IS)
    if bits == AS_IS:
        return write_quantized(parent, out, quantize, context).with_notes(dampings.notes())
    with TemporaryDirectory(dir=out.parent) as name:
        layers = Path(name)
        first = write_quantized(parent, layers, quantize, context)
        second = embeddings.compress(layers, out, QuantizeEmbeddings(bits=bits, group_size=step.group_size), context)
    return Report(first.targeted + second.targeted, first.changed + second.changed, dampings.notes())
