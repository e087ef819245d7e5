"""What training wins back: compressed parents and small students of a real model, as the project's own trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune
from search_spaces.outcome import Failure, Measurement
from workers.checkpoints.locate import resolve
from workers.checkpoints.model_files import read_checkpoint
from workers.evaluation.attempt import attempt
from workers.evaluation.evaluate import evaluate
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.training_data import TrainingData
from workers.runtime.callbacks import ProgressCallback, ignore_progress

SEEDS = (0, 1, 2)
WIDTHS = (3, 2)
# Quantization-aware, so that no byte is added: the parent's grid stays, its integers and scales are trained. Half
# cross-entropy on the teacher's translations of sources that it has not learnt, half divergence from it there.
AWARE = Finetune(tokens=10_000_000, rate=6e-4, batch=256, loss="forward_kl", warm_up=50, beams=4, reference_share=0.5)
HEALED = Finetune(tokens=8_000_000, rate=1e-3, batch=256, loss="forward_kl", warm_up=50)
STUDENT = Distill(width=0.5, tokens=6_000_000, rate=1e-3, batch=256, loss="forward_kl", warm_up=50)
HALF = RemoveLayers(count=2, by="greedy")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchCandidate:
    """A candidate to measure. seed: of everything that is drawn. made_up: its training is on made-up sources."""

    name: str
    steps: tuple[Step, ...]
    seed: int = 0
    made_up: bool = False


@dataclass(frozen=True, slots=True)
class Bench:
    """A model and what its candidates are measured under; the split `test` is reported."""

    base: BaseModel
    """The model."""
    plan: EvaluationPlan
    """What its candidates are measured under."""
    say: Say
    """Is given each line for the terminal."""
    made_up: TrainingData | None = None
    """What the runs on made-up sources train on."""
    jobs: int = 1
    """Candidates measured at a time. With several, each has a process of its own."""
    report: ProgressCallback = ignore_progress
    """Is told of the progress of a training."""

    def measured(self, runs: Sequence[BenchCandidate]) -> dict[str, Measurement]:
        """Each run's measurement, by name; raises RuntimeError where one failed."""
        found: dict[str, Measurement] = {}
        if self.jobs == 1:
            for run in runs:
                found[run.name] = self._told(run.name, _measured(self.base, self._plan_of(run), run, self.report))
            return found
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            asked = {pool.submit(_measured, self.base, self._plan_of(run), run): run.name for run in runs}
            try:
                for done in as_completed(asked):
                    found[asked[done]] = self._told(asked[done], done.result())
            except BaseException:
                # Else leaving the pool waits for all that was asked of it.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _plan_of(self, run: BenchCandidate) -> EvaluationPlan:
        return replace(self.plan, seed=run.seed, training=self.made_up if run.made_up else self.plan.training)

    def _told(self, name: str, outcome: Measurement) -> Measurement:
        seconds = ", ".join(f"{stage} {taken:.1f} s" for stage, taken in outcome.seconds.items())
        self.say(f"{name}: chrF {outcome.overall('chrf'):.2f}, {outcome.footprint.bytes:,} bytes ({seconds})")
        for note in outcome.notes:
            self.say(f"  {note}")
        return outcome


def recovery_runs() -> list[BenchCandidate]:
    """The uncompressed model; a 4-bit parent; 3- and 2-bit ones as they are and trained quantization-aware, over SEEDS;
    and half the layers, as they are and healed. What trains at 2 bits comes last, and finds the teacher's translations
    that the same seed at 3 bits has had made."""
    parents = {bits: GPTQ(bits=bits) for bits in WIDTHS}
    recovered = {
        bits: [BenchCandidate(f"recovered{bits} {seed}", (parent, AWARE), seed, made_up=True) for seed in SEEDS]
        for bits, parent in parents.items()
    }
    return [
        *recovered[3],
        BenchCandidate("half_healed", (HALF, HEALED)),
        BenchCandidate("baseline", ()),
        *(BenchCandidate(f"gptq{bits} {seed}", (parents[bits],), seed) for bits in WIDTHS for seed in SEEDS),
        BenchCandidate("gptq4", (GPTQ(bits=4),)),
        BenchCandidate("half", (HALF,)),
        *recovered[2],
    ]


def student_runs() -> list[BenchCandidate]:
    """A student of half the width: distilled from a live and from a cached teacher, and trained on references alone for
    as many tokens, over SEEDS."""
    ways = {
        "distilled": STUDENT,
        "references": replace(STUDENT, loss="references"),
        "cached": replace(STUDENT, teacher="cached"),
    }
    return [BenchCandidate(f"{name} {seed}", (step,), seed) for seed in SEEDS for name, step in ways.items()]


def recovery_figures(measured: Mapping[str, Measurement]) -> dict[str, float]:
    """chrF and bytes of `recovery_runs`, means over SEEDS where there are several, and the share of the lost chrF that
    training won back."""
    single = ("baseline", "gptq4", "half", "half_healed")
    found = {name: [measured[name]] for name in single}
    for bits in WIDTHS:
        for name in (f"gptq{bits}", f"recovered{bits}"):
            found[name] = [measured[f"{name} {seed}"] for seed in SEEDS]
    chrf = {name: [one.overall("chrf") for one in some] for name, some in found.items()}
    mean = {name: fmean(values) for name, values in chrf.items()}
    figures = {f"chrf_{name}": value for name, value in mean.items()}
    figures |= {f"bytes_{name}": float(max(one.footprint.bytes for one in some)) for name, some in found.items()}
    for bits in WIDTHS:
        lost = mean["baseline"] - mean[f"gptq{bits}"]
        figures[f"recovered_share_{bits}bit"] = (mean[f"recovered{bits}"] - mean[f"gptq{bits}"]) / lost
        figures[f"chrf_recovered{bits}_least"] = min(chrf[f"recovered{bits}"])
    return figures | {"half_depth_chrf_share": mean["half_healed"] / mean["baseline"]}


def student_figures(bench: Bench, measured: Mapping[str, Measurement]) -> dict[str, float]:
    """Means over SEEDS of `student_runs`, and what distillation gains."""
    chrf = {
        name: [measured[f"{name} {seed}"].overall("chrf") for seed in SEEDS]
        for name in ("distilled", "references", "cached")
    }
    mean = {name: fmean(values) for name, values in chrf.items()}
    gains = [one - other for one, other in zip(chrf["distilled"], chrf["references"], strict=True)]
    one = measured[f"distilled {SEEDS[0]}"]
    return {
        "student_distilled_minus_references": mean["distilled"] - mean["references"],
        "student_distilled_minus_references_least": min(gains),
        "chrf_cached_minus_live": mean["cached"] - mean["distilled"],
        "bytes_student": float(one.footprint.bytes),
        "student_parameters_share": _parameters(bench.plan.store / one.artefact)
        / _parameters(resolve(bench.base.name)[1]),
        **{f"chrf_student_{name}": value for name, value in mean.items()},
    }


def _measured(
    base: BaseModel, plan: EvaluationPlan, run: BenchCandidate, report: ProgressCallback = ignore_progress
) -> Measurement:
    measure = partial(evaluate, report=report)
    outcome, _ = attempt(Candidate(base, run.steps), "test", plan, measure)
    if isinstance(outcome, Failure):
        raise RuntimeError(f"{run.name}: {outcome.message}")
    return outcome


def _parameters(folder: Path) -> int:
    return read_checkpoint(folder).parameters
