"""`mtpareto bench distillation`: what training wins back, and how fast it is, in one table and a results file."""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.benches.figures import DISTILLATION
from orchestrator.benches.results_file import earlier, merge_results, this_device, write_record
from orchestrator.progress.training_lines import in_lines
from orchestrator.study.shipped import SHIPPED_CALIBRATION, SHIPPED_MODEL
from search_spaces.errors import StudyError
from workers.checkpoints.locate import resolve
from workers.plan.conditions import installed_versions
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.reading.training_data import TrainingData, training_data
from workers.training.data.overlap import refuse_overlap
from workers.training.data.synthetic_sources import write_made_up
from workers.translation.decoding import Decoding

PARTS = ("recovery", "students", "cached", "rate", "sharded")
# What asks for data to train on and to measure chrF on.
ON_DATA = ("recovery", "students")
DISTRIBUTIONS = ("torch", "transformers", "peft", "deepspeed", "compressed-tensors", "sacrebleu")
MAX_NEW_TOKENS = 64
BATCH_SIZE = 512
# Sources that are made up of the training ones, and how often they are drawn beside a file's pairs.
MADE_UP = 96_000
MADE_UP_WEIGHT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationRequest:
    """What the bench runs on."""

    output: Path
    """The results file."""
    parts: tuple[str, ...]
    """What to run, of PARTS."""
    data: str | None
    """Segments whose chrF is measured, for the parts recovery and students."""
    training: tuple[str, ...]
    """Files of training pairs, for the parts recovery and students."""
    model: str = str(SHIPPED_MODEL)
    """Hub id or local folder of the model."""
    shape: str = "llama-1b"
    """Shape of the random weights of the parts cached and sharded."""
    large_shape: str = "mistral-7b"
    """Shape of the random weights of the part rate."""
    store: str | None = None
    """The artefact store's folder; None is a temporary one."""
    jobs: int = 1
    """Candidates measured at a time."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise StudyError(f"parts has {unknown[0]!r}; there are {', '.join(PARTS)}")
        if set(self.parts) & set(ON_DATA) and not (self.data and self.training):
            raise StudyError(f"the parts {', '.join(ON_DATA)} need --data and --training")


def request_of(options: argparse.Namespace) -> DistillationRequest:
    """The request that parsed flags spell."""
    return DistillationRequest(
        output=options.json,
        parts=tuple(part.strip() for part in options.parts.split(",")),
        data=options.data,
        training=tuple(options.training),
        model=options.model or str(SHIPPED_MODEL),
        shape=options.shape,
        large_shape=options.large_shape,
        store=options.store,
        jobs=options.jobs,
    )


def bench_distillation(request: DistillationRequest, command: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the parts asked for and write the results file and its page; returns what was written.

    What an earlier run has written there stays, but for the figures that this one measures anew. The file is written
    after each part, so that one that fails later takes none with it.
    """
    before = earlier(request.output)
    _refuse_unknown_shapes(request)
    if "sharded" in request.parts:
        from workers.benches.sharded_speed import refuse_too_few_devices

        # Before the other parts take their time.
        refuse_too_few_devices(request.shape)
    figures: dict[str, float] = {}
    about: dict[str, Any] = {"device": this_device()}
    record: dict[str, Any] = {}
    measured: set[str] = set()
    for parts, measure in _PARTS.items():
        if not set(parts) & set(request.parts):
            continue
        found, told = measure(request, say)
        figures |= found
        measured |= set(parts)
        about |= {
            **told,
            "parts": ", ".join(name for name in request.parts if name in measured),
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
        }
        record = merge_results(before, figures, about | installed_versions(DISTRIBUTIONS), command)
        write_record(request.output, DISTILLATION, record)
    return record


def _refuse_unknown_shapes(request: DistillationRequest) -> None:
    from workers.benches.compression_speed import SHAPES

    for part, field, shape in (("cached", "shape", request.shape), ("rate", "large_shape", request.large_shape)):
        if part in request.parts and shape not in SHAPES:
            raise StudyError(f"{field} is {shape!r}; there are {', '.join(SHAPES)}")


def _cached(request: DistillationRequest, say: Callable[[str], None]) -> tuple[dict[str, float], dict[str, Any]]:
    from workers.benches.training_speed import TIMED, cached_figures

    return cached_figures(request.shape, say), {"shape": request.shape, "timed": TIMED}


def _rate(request: DistillationRequest, say: Callable[[str], None]) -> tuple[dict[str, float], dict[str, Any]]:
    from workers.benches.training_speed import TIMED, rate_figures

    return rate_figures(request.large_shape, say), {"large shape": request.large_shape, "timed": TIMED}


def _sharded(request: DistillationRequest, say: Callable[[str], None]) -> tuple[dict[str, float], dict[str, Any]]:
    from workers.benches.sharded_speed import conditions, sharded_figures

    return sharded_figures(request.shape, say), {"shape": request.shape, "sharded": conditions(request.shape)}


def _on_data(request: DistillationRequest, say: Callable[[str], None]) -> tuple[dict[str, float], dict[str, Any]]:
    from workers.benches.distillation_bench import (
        SEEDS,
        Bench,
        recovery_figures,
        recovery_runs,
        student_figures,
        student_runs,
    )

    assert request.data is not None
    dataset = read_dataset(request.data)
    calibration = read_dataset(str(SHIPPED_CALIBRATION))
    langs = sorted({segment.langs for segment in dataset.segments})

    def without_test_sources(files: Sequence[tuple[str, float]]) -> TrainingData:
        return refuse_overlap(training_data(files, langs, skip_bad_rows=True), {"test": dataset})

    pairs = [(path, 1.0) for path in request.training]
    training = without_test_sources(pairs)
    base, folder = resolve(request.model)
    figures: dict[str, float] = {}
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        made_up = None
        if "recovery" in request.parts:
            file = Path(scratch) / "made_up.jsonl"
            write_made_up(training, MADE_UP, file)
            made_up = without_test_sources([*pairs, (str(file), MADE_UP_WEIGHT)])
            told["made up"] = f"{MADE_UP} sources, drawn {MADE_UP_WEIGHT:g} times as often as a file's pairs"
        plan = EvaluationPlan(
            data={"test": dataset},
            calibration=calibration,
            metrics=("chrf",),
            training=training,
            decoding=Decoding(MAX_NEW_TOKENS, BATCH_SIZE),
            store=Path(request.store or scratch),
        )
        bench = Bench(base=base, plan=plan, say=say, made_up=made_up, jobs=request.jobs, report=in_lines(say))
        runs = {"recovery": recovery_runs(), "students": student_runs()}
        measured = bench.measured([run for part in request.parts for run in runs.get(part, [])])
        if "recovery" in request.parts:
            figures |= recovery_figures(measured)
        if "students" in request.parts:
            figures |= student_figures(bench, measured)
    return figures, told | {
        "model": f"{folder.name} {base.revision[:23]}",
        "data": f"{dataset.name} sha256:{dataset.digest[:16]}, {len(dataset.segments)} segments",
        "training": f"{', '.join(Path(path).name for path in request.training)} {training.digest}",
        "calibration": f"{calibration.name} sha256:{calibration.digest[:16]}",
        "decoding": f"greedy, at most {MAX_NEW_TOKENS} new tokens, batch {BATCH_SIZE}",
        "seeds": f"0; of 3 and 2 bits and of students {', '.join(map(str, SEEDS))}",
    }


# What measures which parts; those on data share their runs.
_PARTS: dict[tuple[str, ...], Callable[..., tuple[dict[str, float], dict[str, Any]]]] = {
    ON_DATA: _on_data,
    ("cached",): _cached,
    ("rate",): _rate,
    ("sharded",): _sharded,
}
