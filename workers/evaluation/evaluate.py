"""One candidate from end to end: compress, load, translate, score. `main.py` and every trial of a search call this.

A trial that races does it rung by rung, with the model loaded in between; everything else is one rung of all segments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.candidate import Candidate
from search_spaces.curve import Curve, curve_from_json
from search_spaces.outcome import Measurement, Race
from workers.checkpoints.model_files import context_length, read_config
from workers.evaluation.candidate_folder import Built, build_candidate, footprint
from workers.evaluation.loaded import load_candidate, references_for
from workers.failures.table import EmptyOutput
from workers.plan.conditions import conditions
from workers.plan.evaluation_plan import RACED_SPLIT, EvaluationPlan
from workers.reading.segments import Segment
from workers.runtime.artefact_store import Artefact
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.gpu_memory import release_memory
from workers.runtime.stages import Stages
from workers.runtime.warned import Hear, Warnings, heard_by, unheard_warning
from workers.scoring.baseline_look import baseline_fault, why_all_empty
from workers.scoring.measure import corpus_scores, segment_rows
from workers.scoring.rungs import race_order, rung_ends
from workers.scoring.sanity import failed_checks, shares
from workers.translation.decoding import Hypothesis
from workers.translation.prompts import Prompt, without_examples

log = logging.getLogger(__name__)

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A measured candidate, line by line."""

    measurement: Measurement
    """The candidate's numbers."""
    segments: tuple[Segment, ...]
    """Segments that were translated, in the data set's order: all of them, unless a race ended early."""
    hypotheses: tuple[Hypothesis, ...]
    """The translation of each segment."""
    rows: tuple[Mapping[str, float], ...]
    """Scores of each segment, by metric."""
    failed: tuple[tuple[str, ...], ...]
    """The sanity checks that each hypothesis failed."""
    folder: Path
    """The model folder that was scored."""


@dataclass(slots=True)
class Ready:
    """A candidate that can translate. translator: None once its last segment is translated, so that the model goes."""

    built: Built
    translator: Any
    devices: tuple[Any, ...]


def evaluate(
    candidate: Candidate,
    split: str,
    plan: EvaluationPlan,
    stages: Stages,
    progress: Progress = lambda done: None,
    report: ProgressCallback = ignore_progress,
) -> Evaluated:
    """Measure one candidate on one split, all of it. Raises what the libraries raise; `stages` then says where.

    progress: is told how many segments are translated. report: is told of the progress of steps that train.
    """
    evaluation = Evaluation(candidate, split, plan, stages, progress, report=report)
    evaluation.advance()
    return evaluation.evaluated()


def races(candidate: Candidate, split: str, plan: EvaluationPlan) -> bool:
    """Whether a trial may be ended early: never the baseline, and never what is judged on held-out data."""
    return bool(plan.rungs) and split == RACED_SPLIT and bool(candidate.steps)


class Evaluation:
    """A candidate under way: `advance` until it is `over` or the race is lost, then ask for what was `evaluated`."""

    def __init__(
        self,
        candidate: Candidate,
        split: str,
        plan: EvaluationPlan,
        stages: Stages,
        progress: Progress = lambda done: None,
        racing: bool = False,
        report: ProgressCallback = ignore_progress,
        warn: Hear = unheard_warning,
        warned: tuple[str, ...] = (),
    ) -> None:
        """warn: is told at once of each warning that comes, which the measurement notes too. warned: those that came
        before."""
        self._candidate = candidate
        self._plan = plan
        self._compares = plan.divergence and split == RACED_SPLIT
        self._divergence: Mapping[str, float] = {}
        self._dataset = plan.data[split]
        self._stages = stages
        self._progress = progress
        self._report = report
        self._warnings = Warnings(warn, warned)
        segments = self._dataset.segments
        self._order: Sequence[int] = race_order(segments, plan.seed) if racing else range(len(segments))
        self._ends = list(rung_ends(segments, self._order, plan.rungs)) if racing else [len(segments)]
        self._ready: Ready | None = None
        self._hypotheses: dict[int, Hypothesis] = {}
        self._rows: dict[int, Mapping[str, float]] = {}

    @property
    def over(self) -> bool:
        """Whether every segment has been translated."""
        return not self._ends

    @property
    def positions(self) -> list[int]:
        """The positions in the data set of what has been translated, in the race's order."""
        return list(self._hypotheses)

    @property
    def qualities(self) -> list[float]:
        """The quality of each of `positions`, by segment."""
        return [row[self._plan.metrics[0]] for row in self._rows.values()]

    @property
    def bytes(self) -> int:
        """What the candidate takes on disk; known after the first rung."""
        made = self._began().built
        return footprint(self._candidate, made.base, made.artefact).bytes

    def advance(self) -> None:
        """Translate the next rung and score its segments; the first time, compress and load before."""
        with heard_by(self._warnings):
            self._advance()

    def _advance(self) -> None:
        if self._ready is None:
            self._ready = self._made_ready()
        ready = self._ready
        end = self._ends.pop(0)
        positions = self._order[len(self._hypotheses) : end]
        segments = [self._dataset.segments[position] for position in positions]
        with self._stages.stage("translate"):
            before = len(self._hypotheses)
            hypotheses = ready.translator(segments, lambda done: self._progress(before + done))
            self._hypotheses.update(zip(positions, hypotheses, strict=True))
            if self.over:
                ready.translator = None
                release_memory()
        with self._stages.stage("score"):
            if not any(hypothesis.text for hypothesis in self._hypotheses.values()):
                raise EmptyOutput(why_all_empty(tuple(self._hypotheses.values()), self._plan.decoding))
            texts = [hypothesis.text for hypothesis in hypotheses]
            self._rows.update(zip(positions, segment_rows(self._plan, segments, texts), strict=True))

    def evaluated(self, race: Race | None = None) -> Evaluated:
        """The measurement of what has been translated. race: why that is not everything. Nothing can follow it."""
        ready = self._began()
        ready.translator = None
        made = ready.built
        positions = sorted(self._hypotheses)
        segments = tuple(self._dataset.segments[position] for position in positions)
        hypotheses = tuple(self._hypotheses[position] for position in positions)
        rows = tuple(self._rows[position] for position in positions)
        with self._stages.stage("score"):
            texts = [hypothesis.text for hypothesis in hypotheses]
            scores = corpus_scores(self._plan, segments, texts, rows)
            failed = [
                failed_checks(segment, hypothesis.text, hypothesis.truncated)
                for segment, hypothesis in zip(segments, hypotheses, strict=True)
            ]
            if not self._candidate.steps:
                self._look_at_baseline(segments, hypotheses, failed, made.prompt)
        measurement = Measurement(
            scores=scores,
            footprint=footprint(self._candidate, made.base, made.artefact),
            seconds=dict(self._stages.seconds),
            segments=len(texts),
            tokens=sum(hypothesis.tokens for hypothesis in hypotheses),
            truncated=sum(hypothesis.truncated for hypothesis in hypotheses),
            artefact=made.artefact.path.name if made.artefact else "",
            notes=_notes(made.artefact, without_examples(made.prompt, segments, self._examples), self._warnings.texts),
            conditions=conditions(self._dataset, self._plan, made.prompt, ready.devices, hypotheses),
            sanity=shares(failed),
            race=race,
            curves=_curves(made.artefact),
            divergence=self._divergence,
        )
        return Evaluated(measurement, segments, hypotheses, rows, tuple(failed), made.folder)

    def _look_at_baseline(
        self,
        segments: Sequence[Segment],
        hypotheses: Sequence[Hypothesis],
        failed: Sequence[Sequence[str]],
        prompt: Prompt,
    ) -> None:
        """Warn of what is wrong with the model itself: candidates are only compared with it."""
        with heard_by(self._warnings):
            fault = baseline_fault(segments, hypotheses, failed, self._plan.decoding, prompt.name)
            if fault is not None:
                log.warning("%s", fault)

    @property
    def _examples(self) -> tuple[Segment, ...]:
        return self._plan.calibration.segments if self._plan.calibration else ()

    def _began(self) -> Ready:
        if self._ready is None:
            raise RuntimeError("nothing is known of a candidate before its first rung")
        return self._ready

    def _made_ready(self) -> Ready:
        from workers.translation.length_limit import limit_warning
        from workers.translation.translator import Translator

        plan, stages = self._plan, self._stages
        with stages.stage("compress"):
            made = build_candidate(self._candidate, plan, self._report)
        references = references_for(self._candidate, made, plan, stages) if self._compares else {}
        loaded = load_candidate(self._candidate, made, references, plan, stages)
        self._divergence = loaded.divergence
        with stages.stage("load"):
            context = context_length(read_config(made.folder))
            translator = Translator(
                model=loaded.model,
                tokenizer=loaded.tokenizer,
                prompt=made.prompt,
                examples=self._examples,
                decoding=plan.decoding,
                context=context,
            )
            limit, every = plan.decoding.max_new_tokens, self._dataset.segments
            if not self._candidate.steps and (said := limit_warning(every, loaded.tokenizer, made.prompt, limit)):
                log.warning("%s", said)
        return Ready(made, translator, loaded.devices)


def _notes(artefact: Artefact | None, zero_shot: Sequence[str], warnings: Sequence[str]) -> tuple[str, ...]:
    notes = tuple(artefact.about["notes"]) if artefact else ()
    notes += (f"no example for {', '.join(zero_shot)}: asked zero-shot",) if zero_shot else ()
    # What was warned of while the artefact was made is among its notes already.
    return notes + tuple(text for text in warnings if text not in notes)


def _curves(artefact: Artefact | None) -> tuple[Curve, ...]:
    return tuple(curve_from_json(curve) for curve in artefact.about.get("curves", ())) if artefact else ()
