"""`mtpareto bench compress`: what calibration and quantization cost and give, in one table and a results file."""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.benches.figures import COMPRESS
from orchestrator.benches.results_file import earlier, merge_results, this_device, write_record
from orchestrator.study.shipped import SHIPPED_CALIBRATION, SHIPPED_MODEL
from search_spaces.errors import StudyError
from search_spaces.parameters import DEFAULT_CALIBRATION_TOKENS
from workers.checkpoints.locate import resolve
from workers.checkpoints.model_files import read_config
from workers.plan.conditions import installed_versions
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.translation.decoding import Decoding
from workers.translation.prompts import choose_prompt

PARTS = ("speed", "llm-compressor", "errors", "quality")
# What workers.benches.compression_speed knows; named here too, so that the driver need not load torch to refuse.
SHAPES = ("mistral-7b", "small")
DISTRIBUTIONS = ("torch", "transformers", "compressed-tensors", "triton", "llmcompressor", "sacrebleu")
MAX_NEW_TOKENS = 96
BATCH_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What the bench runs on."""

    data: str
    """Segments whose chrF is measured."""
    output: Path
    """The results file."""
    shape: str
    """Shape of the random weights that are timed."""
    tokens: tuple[int, int]
    """Tokens of the short and of the long calibration."""
    parts: tuple[str, ...]
    """What to run, of PARTS."""
    model: str = str(SHIPPED_MODEL)
    """Hub id or local folder of the model."""
    calibration: str = str(SHIPPED_CALIBRATION)
    """File of calibration pairs."""
    seed: int = 0
    """Seed of everything that is drawn at random."""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise StudyError(f"shape is {self.shape!r}; there are {', '.join(SHAPES)}")
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise StudyError(f"parts has {unknown[0]!r}; there are {', '.join(PARTS)}")
        if "llm-compressor" in self.parts and "speed" not in self.parts:
            raise StudyError("the part llm-compressor is compared with ours; add the part speed")
        if not 0 < self.tokens[0] <= self.tokens[1]:
            raise StudyError(
                f"tokens is {self.tokens}; it must be a short and a long calibration, such as 65536,1048576"
            )


def request_of(options: argparse.Namespace) -> BenchRequest:
    """The request that parsed flags spell; raises StudyError for what they can't mean."""
    try:
        short, long = (int(part) for part in options.tokens.split(","))
    except ValueError as error:
        raise StudyError(
            f"tokens is {options.tokens!r}; it must be two whole numbers, such as 65536,1048576"
        ) from error
    return BenchRequest(
        data=options.data,
        output=options.json,
        shape=options.shape,
        tokens=(short, long),
        parts=tuple(part.strip() for part in options.parts.split(",")),
        model=options.model or str(SHIPPED_MODEL),
        calibration=options.calibration or str(SHIPPED_CALIBRATION),
        seed=options.seed,
    )


def bench_compress(request: BenchRequest, command: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the parts asked for and write the results file and its page; returns what was written.

    What an earlier run has written there stays, but for the figures that this one measures anew.
    """
    from workers.benches import compression_bench as bench

    if "llm-compressor" in request.parts:
        _refuse_missing_rival()
    earlier(request.output)
    data = read_dataset(request.data)
    calibration = read_dataset(request.calibration)
    base, folder = resolve(request.model)
    prompt = choose_prompt(base.name, read_config(folder), None, None)
    run = bench.SpeedRun(request.shape, request.tokens, folder)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as store:
        plan = EvaluationPlan(
            data={"dev": data},
            calibration=calibration,
            metrics=("chrf",),
            decoding=Decoding(MAX_NEW_TOKENS, BATCH_SIZE),
            store=Path(store),
            seed=request.seed,
        )
        context = bench.context_of(plan, base, prompt)
        if "speed" in request.parts:
            figures |= bench.speed_figures(run, say)
        if "llm-compressor" in request.parts:
            figures |= bench.their_figures(run, figures, say)
            figures |= bench.their_error_figures(run, folder, context, say)
        if "errors" in request.parts:
            figures |= bench.error_figures(folder, context)
        if "quality" in request.parts:
            figures |= bench.quality_figures(base, plan, say)
    run_conditions = {
        "parts": ", ".join(request.parts),
        "device": this_device(),
        "shape": request.shape,
        "tokens": ", ".join(map(str, request.tokens)),
        "model": f"{folder.name} {base.revision[:23]}",
        "data": f"{data.name} sha256:{data.digest[:16]}, {len(data.segments)} segments",
        "calibration": f"{calibration.name} sha256:{calibration.digest[:16]}, {DEFAULT_CALIBRATION_TOKENS} tokens",
        "group_size": f"{bench.SPEED_GROUP} where timed, 64 elsewhere",
        "timed": "calibration and quantization in memory, nothing written, kernels compiled before",
        "decoding": f"greedy, at most {MAX_NEW_TOKENS} new tokens, batch {BATCH_SIZE}",
        "seed": request.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        **installed_versions(DISTRIBUTIONS),
    }
    record = merge_results(earlier(request.output), figures, run_conditions, command)
    write_record(request.output, COMPRESS, record)
    return record


def _refuse_missing_rival() -> None:
    if not installed_versions(["llmcompressor"]):
        raise StudyError(
            "llm-compressor is not installed here; `pip install --no-deps llmcompressor==0.14.0.1 "
            "compressed-tensors==0.19.0 auto-round==0.15.1` in an environment of its own, or leave the part out"
        )
