"""The parts of `mtpareto bench compress`: speed on a real shape, the same by llm-compressor, errors and chrF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.methods.quantizers import GPTQ, RTN, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Measurement
from workers.benches.compression_speed import (
    SHAPES,
    Timed,
    as_batches,
    calibrate_and_quantize,
    random_model,
    random_sequences,
)
from workers.benches.layer_error import errors_against, held_out_errors
from workers.benches.llm_compressor import quantize_by_llm_compressor
from workers.calibration.calibrate import calibration_sequences
from workers.calibration.sequences import Shown
from workers.evaluation.attempt import attempt
from workers.loading.load import default_device, load_for_calibration, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.plan.evaluation_plan import EvaluationPlan
from workers.scoring.metrics import corpus_statistics, paired_interval
from workers.translation.prompts import Prompt

WIDTHS = (8, 4, 3, 2)
LOW_WIDTHS = (4, 3, 2)
# Groups of 128 are llm-compressor's own choice for W4A16.
SPEED_GROUP = 128
WARM_TOKENS = 16_384
THEIR_LAYERS = 4
EIGHT_BIT_EMBEDDINGS = QuantizeEmbeddings(bits=8)
# The last four take the bytes of uniform 3 bits with 8-bit embeddings. Raw error is known as a layer-wise allocation;
# with the embeddings among its choices it is measured too.
QUALITY: dict[str, tuple[Step, ...]] = {
    "bf16": (),
    "gptq4": (GPTQ(bits=4),),
    "gptq3": (GPTQ(bits=3),),
    "rtn3": (RTN(bits=3),),
    "uniform3": (GPTQ(bits=3), EIGHT_BIT_EMBEDDINGS),
    "mixed": (MixedWidths(bits=3.0, embeddings=True),),
    "raw_error": (MixedWidths(bits=3.0, score="error"), EIGHT_BIT_EMBEDDINGS),
    "raw_error_embeddings": (MixedWidths(bits=3.0, score="error", embeddings=True),),
}
# What intervals are given of: the first minus the second.
PAIRED = (
    ("gptq4", "bf16"),
    ("gptq3", "rtn3"),
    ("mixed", "uniform3"),
    ("mixed", "raw_error"),
    ("mixed", "raw_error_embeddings"),
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SpeedRun:
    """What is timed. shape: a key of SHAPES. tokens: of the short and the long calibration. tokenizer: a folder with
    one, for llm-compressor."""

    shape: str
    tokens: tuple[int, int]
    tokenizer: Path


def speed_figures(run: SpeedRun, say: Say) -> dict[str, float]:
    """Seconds and memory of calibration with GPTQ on random weights of the shape, all layers, kernels compiled before.

    The model is made anew for each run, so that each quantizes the same weights.
    """
    device, shape = default_device(), SHAPES[run.shape]
    short, long = run.tokens
    few = min(WARM_TOKENS, short)
    calibrate_and_quantize(random_model(shape, device, 1), random_sequences(shape, few), WIDTHS, SPEED_GROUP, device)
    timings: dict[str, Timed] = {}
    for name, tokens, widths in (("gptq4", short, (4,)), ("all", short, WIDTHS), ("gptq4_1m", long, (4,))):
        model = random_model(shape, device)
        timings[name] = calibrate_and_quantize(model, random_sequences(shape, tokens), widths, SPEED_GROUP, device)
        del model
        say(
            f"{name}: {tokens} tokens, widths {widths}: {timings[name].seconds:.2f} s, {timings[name].peak_gib:.1f} GiB"
        )
    return {
        "gptq4_s": timings["gptq4"].seconds,
        "gptq_all_widths_s": timings["all"].seconds,
        "gptq4_1m_s": timings["gptq4_1m"].seconds,
        "gptq_all_widths_ratio": timings["all"].seconds / timings["gptq4"].seconds,
        "peak_gpu_gib": max(timing.peak_gib for timing in timings.values()),
    }


def their_figures(run: SpeedRun, ours: dict[str, float], say: Say) -> dict[str, float]:
    """llm-compressor's seconds over ours: theirs on 4 layers after a run that compiles its kernels, scaled to all."""
    device, shape = default_device(), SHAPES[run.shape]
    short, long = run.tokens
    scale = shape.layers / THEIR_LAYERS
    quantize_by_llm_compressor(
        random_model(shape, device, 1),
        random_sequences(shape, WARM_TOKENS),
        bits=4,
        group_size=SPEED_GROUP,
        device=device,
        processor=run.tokenizer,
    )
    seconds: dict[tuple[int, int], float] = {}
    for tokens, bits in ((short, 4), (short, 8), (short, 3), (short, 2), (long, 4)):
        model = random_model(shape, device, THEIR_LAYERS)
        ids = random_sequences(shape, tokens)
        took = quantize_by_llm_compressor(
            model, ids, bits=bits, group_size=SPEED_GROUP, device=device, processor=run.tokenizer
        )
        del model
        seconds[tokens, bits] = took.seconds * scale
        say(f"llm-compressor: {tokens} tokens, {bits} bits: {took.seconds:.2f} s on {THEIR_LAYERS} layers")
    return {
        "llmcompressor_s": seconds[short, 4],
        "llmcompressor_1m_s": seconds[long, 4],
        "llmcompressor_ratio_65k": seconds[short, 4] / ours["gptq4_s"],
        "llmcompressor_ratio_1m": seconds[long, 4] / ours["gptq4_1m_s"],
        "llmcompressor_ratio_four_widths": sum(seconds[short, bits] for bits in WIDTHS) / ours["gptq_all_widths_s"],
    }


def error_figures(folder: Path, context: CompressionContext) -> dict[str, float]:
    """GPTQ's output error over RTN's on held-out pairs, by width."""
    errors = held_out_errors(folder, context, LOW_WIDTHS)
    return {f"layer_error_gptq_over_rtn_{bits}": errors[f"gptq_{bits}"] / errors[f"rtn_{bits}"] for bits in LOW_WIDTHS}


def their_error_figures(run: SpeedRun, folder: Path, context: CompressionContext, say: Say) -> dict[str, float]:
    """Our output error over llm-compressor's at 4 bits, same weights, tokens and groups: random weights, and a model.

    Layer 0 has the same inputs in both; later layers of theirs were fitted to inputs that earlier rounding had moved,
    and are judged on the model's own inputs here, as ours were fitted.
    """
    device, shape = default_device(), SHAPES[run.shape]

    def errors(make: Callable[[], Any], ids: torch.Tensor) -> tuple[list[float], list[float]]:
        """Ours and theirs, a layer each; make: the same model each time."""
        ours, theirs = make(), make()
        calibrate_and_quantize(ours, ids, (4,), SPEED_GROUP, device)
        quantize_by_llm_compressor(theirs, ids, bits=4, group_size=SPEED_GROUP, device=device, processor=run.tokenizer)
        whole, made = make(), as_batches(ids)
        return (
            errors_against(whole, _weights_of(ours), made, device),
            errors_against(whole, _weights_of(theirs), made, device),
        )

    random_ids = random_sequences(shape, run.tokens[0])
    ours, theirs = errors(lambda: random_model(shape, device, 2), random_ids)
    found = {"layer_error_ours_over_llmcompressor_random": ours[0] / theirs[0]}
    packed = _packed_together(calibration_sequences(load_tokenizer(folder), context))
    ours, theirs = errors(lambda: load_for_calibration(folder, device).to(device), packed)
    found["layer_error_ours_over_llmcompressor_model"] = sum(ours) / sum(theirs)
    found["layer_error_ours_over_llmcompressor_model_layer0"] = ours[0] / theirs[0]
    for name, value in found.items():
        say(f"{name}: {value:.4f}")
    return found


def _packed_together(sequences: Sequence[Shown], width: int = 128) -> torch.Tensor:
    """All tokens end to end in rows of one width, int64 (rows, width); what does not fill a row is left out."""
    ids = [token for sequence in sequences for token in sequence.ids]
    return torch.tensor(ids[: len(ids) // width * width]).reshape(-1, width)


def _weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def quality_figures(base: BaseModel, plan: EvaluationPlan, say: Say) -> dict[str, float]:
    """chrF of each candidate of QUALITY, the mean over language pairs, and paired 95 % intervals of differences.

    Raises RuntimeError when a candidate fails, with its reason.
    """
    data = plan.data["dev"]
    statistics = {}
    found: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for name, steps in QUALITY.items():
        outcome, lines = attempt(Candidate(base, steps), "dev", plan)
        if isinstance(outcome, Failure):
            raise RuntimeError(f"{name} failed, {outcome.reason} in {outcome.stage}: {outcome.message}")
        assert isinstance(outcome, Measurement)
        found[f"chrf_{name}"] = outcome.overall("chrf")
        sizes[name] = outcome.footprint.bytes
        statistics[name] = corpus_statistics("chrf", data.segments, [line["text"] for line in lines])
        say(f"{name}: chrF {found[f'chrf_{name}']:.2f}, {outcome.footprint.bytes} bytes; {'; '.join(outcome.notes)}")
    for name in ("mixed", "raw_error", "raw_error_embeddings"):
        found[f"bytes_{name}_over_uniform3"] = sizes[name] / sizes["uniform3"]
    for first, second in PAIRED:
        interval = paired_interval("chrf", data.segments, statistics[first], statistics[second], plan.seed)
        found[f"{first}_minus_{second}"] = found[f"chrf_{first}"] - found[f"chrf_{second}"]
        found[f"{first}_minus_{second}_low"] = interval.low
        found[f"{first}_minus_{second}_high"] = interval.high
    return found


def context_of(plan: EvaluationPlan, base: BaseModel, prompt: Prompt) -> CompressionContext:
    """What the methods are given when the bench calls them directly."""
    assert plan.calibration is not None
    return CompressionContext(
        calibration=plan.calibration.segments,
        prompt=prompt,
        device=default_device(),
        seed=plan.seed,
        store=plan.store,
        parent_key=base.identity(),
        calibration_tokens=plan.calibration_tokens,
    )
