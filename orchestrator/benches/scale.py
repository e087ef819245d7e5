"""`mtpareto bench scale`: a whole search over a 7B shape, from command to report, and the plain way beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.benches.compress import SHAPES
from orchestrator.benches.figures import SCALE
from orchestrator.benches.results_file import earlier, merge_results, write_record
from orchestrator.benches.study import conditions_of
from orchestrator.benches.watch import DiskWatch, GpuSampler, bytes_of, share_of_seconds
from orchestrator.finish.wrap_up import ARTEFACTS, short_name
from orchestrator.ledger.records import TrialRecord, read_ledger
from orchestrator.search.start import start_search
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.shipped import SHIPPED_CALIBRATION, SHIPPED_DATA, SHIPPED_MODEL, SHIPPED_SEGMENTS
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.errors import StudyError
from search_spaces.outcome import Failure
from workers.checkpoints.model_files import read_config
from workers.reading.files import read_content

SEGMENTS = 512
MAX_NEW_TOKENS = 64
BATCH_SIZE = 256
# So many segments of the plain way are timed, and multiplied out.
PLAIN_SEGMENTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRequest:
    """What the bench runs on."""

    output: Path
    """The results file."""
    folder: Path
    """Where model, data and run go; it must not be there."""
    shape: str
    """Shape of the random weights."""
    store_limit: str | None = None
    """As a study's."""
    gpus_per_trial: float | None = None
    """As a study's."""
    plain: bool = True
    """Whether the plain way is timed too, which takes bitsandbytes and a GPU."""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise StudyError(f"shape is {self.shape!r}; there are {', '.join(SHAPES)}")
        if self.folder.exists():
            raise StudyError(f"{self.folder} exists; name another --folder")


def anchors(layers: int) -> list[list[dict[str, Any]]]:
    """The candidates after the baseline. layers: of the shape."""
    return [
        [{"method": "rtn", "bits": 8}],
        [{"method": "gptq", "bits": 4}],
        [{"method": "gptq", "bits": 3}],
        [{"method": "gptq", "bits": 2}],
        [{"method": "mixed", "bits": 3.5, "embeddings": True}],
        [{"method": "awq", "bits": 4}],
        [{"method": "hqq", "bits": 4}],
        [{"method": "bitsandbytes", "format": "nf4"}],
        [{"method": "bitsandbytes", "format": "int8"}],
        [{"method": "remove_layers", "count": min(2, layers - 1)}],
        [{"method": "wanda", "pattern": "2:4"}],
    ]


def study_of(request: ScaleRequest) -> StudySpec:
    """The study: every candidate on all segments, the frontier timed."""
    model = request.folder / "model"
    tried = anchors(int(read_config(model)["num_hidden_layers"]))
    return spec_from_mapping(
        {
            "model": str(model),
            "data": str(request.folder / "dev.jsonl"),
            "calibration": str(request.folder / "calibration.jsonl"),
            "space": "bit-width",
            "anchors": tried,
            "trials": len(tried) + 1,
            # Random weights translate nothing: no candidate is to be dropped for its quality.
            "rungs": [],
            "floor": 0.0,
            "check_languages": False,
            "max_new_tokens": MAX_NEW_TOKENS,
            "batch_size": BATCH_SIZE,
            "out": str(request.folder / "run"),
            "store_limit": request.store_limit,
            "gpus_per_trial": request.gpus_per_trial,
        }
    )


def bench_scale(
    request: ScaleRequest, command: str, console: Console, work: RunningCommand, say: Callable[[str], None]
) -> dict[str, Any]:
    """Make the model, run the search, time the plain way, and write `output` and its page."""
    before = earlier(request.output)
    say(f"writing random weights of the shape {request.shape} to {request.folder / 'model'}")
    _child("make", str(request.folder / "model"), request.shape, str(SHIPPED_MODEL))
    write_data(request.folder)
    spec = study_of(request)
    model_bytes = bytes_of(Path(spec.model))
    began = time.perf_counter()
    with GpuSampler() as sampler, DiskWatch(spec.folder) as disk:
        start_search(spec, console, work)
    seconds = time.perf_counter() - began
    ledger = read_ledger(spec.folder)
    kept = bytes_of(spec.folder / ARTEFACTS)
    figures = scale_figures(seconds, ledger.trials, (disk.peak - kept) / model_bytes)
    if sampler.samples:
        figures["gpu_busy_share"] = share_of_seconds(sampler.samples)
        figures["gpu_busy_mean"] = sum(sampler.samples) / len(sampler.samples)
    if request.plain:
        say(f"timing bitsandbytes and generate on {PLAIN_SEGMENTS} segments, one at a time")
        plain = json.loads(
            _child("plain", spec.model, spec.data_files[0], str(PLAIN_SEGMENTS), str(MAX_NEW_TOKENS)).splitlines()[-1]
        )
        figures |= plain_figures(plain, spec.trials)
    conditions = {
        **conditions_of(ledger.trials),
        "shape": request.shape,
        "segments": str(SEGMENTS),
        "model_bytes": str(model_bytes),
        "store_limit": str(request.store_limit),
        "gpus_per_trial": str(ledger.header["spec"]["gpus_per_trial"] or 1),
    }
    record = merge_results(before, figures, conditions, command)
    write_record(request.output, SCALE, record)
    return record


def scale_figures(seconds: float, trials: Sequence[TrialRecord], disk_over_model: float) -> dict[str, float]:
    """The figures of a whole search. seconds: from the command to the report."""
    measured = [(trial, trial.measurement) for trial in trials if trial.measurement is not None]
    figures = {
        "minutes": seconds / 60,
        "candidates_measured": float(len({trial.candidate.digest for trial, _ in measured})),
        "candidates_failed": float(sum(isinstance(trial.outcome, Failure) for trial in trials)),
        "peak_disk_over_model": disk_over_model,
        "turnaround_s": turnaround(trials),
    }
    for trial, measurement in measured:
        name = short_name(trial.candidate).replace("-", "_")
        figures |= {f"{name}_{stage}_s": took for stage, took in measurement.seconds.items()}
    return figures


def turnaround(trials: Sequence[TrialRecord]) -> float:
    """Mean seconds of a worker between two trials: from one's end to the next one's beginning, and what neither spends
    in a stage. The first trial of a worker, which imports, is left out."""
    spans: dict[str, list[tuple[datetime, datetime, float]]] = {}
    for trial in trials:
        if trial.measurement is not None:
            begin, end = datetime.fromisoformat(trial.started), datetime.fromisoformat(trial.ended)
            spans.setdefault(trial.worker, []).append((begin, end, sum(trial.measurement.seconds.values())))
    gaps = [
        (this[1] - last[1]).total_seconds() - this[2]
        for of in spans.values()
        for last, this in pairwise(sorted(of, key=lambda span: span[0]))
    ]
    return sum(gaps) / len(gaps) if gaps else 0.0


def plain_figures(plain: dict[str, float], candidates: int) -> dict[str, float]:
    """What the plain way would take for the same work."""
    hours = candidates * (plain["load_s"] + SEGMENTS * plain["segment_s"]) / 3600
    return {"seed_way_load_s": plain["load_s"], "seed_way_segment_s": plain["segment_s"], "seed_way_hours": hours}


def write_data(folder: Path) -> None:
    """512 segments of the shipped data, and calibration pairs that share none with them."""
    rows = [json.loads(line) for line in SHIPPED_SEGMENTS.read_text("utf-8").splitlines()]
    rows += [json.loads(line) for line in (SHIPPED_DATA / "test.jsonl").read_text("utf-8").splitlines()]
    pairs = [json.loads(line) for line in read_content(SHIPPED_CALIBRATION).splitlines()]
    plain = [{"langs": row["langs"], "src": row["src"], "ref": row.get("tgt") or row["ref"]} for row in rows + pairs]
    dev, seen = plain[:SEGMENTS], {row["src"] for row in plain[:SEGMENTS]}
    others = [row for row in plain[SEGMENTS:] if row["src"] not in seen]
    for name, chosen in (("dev.jsonl", dev), ("calibration.jsonl", others)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (folder / name).write_text(text, encoding="utf-8")


def _child(*words: str) -> str:
    """Run the model's module in a process of its own, so that no GPU memory stays here; returns what it prints."""
    command = [sys.executable, "-m", "workers.benches.scale_model", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
