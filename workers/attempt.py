"""The border where exceptions become Failures: one attempt at one candidate, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from search_spaces.candidate import Candidate
from search_spaces.outcome import Failure, Measurement
from workers.evaluation import Evaluated, evaluate
from workers.failures import as_failure, is_transient
from workers.plan import EvaluationPlan
from workers.stages import Stages

Measure = Callable[[Candidate, str, EvaluationPlan, Stages], Evaluated]
Done = TypeVar("Done")


def attempt(
    candidate: Candidate, split: str, plan: EvaluationPlan, measure: Measure = evaluate
) -> tuple[Measurement | Failure, list[dict[str, Any]]]:
    """Measure a candidate in one go. Transient errors pass through, for another attempt; others are its Failure.

    Returns the outcome and, with a measurement, the hypotheses as JSON objects in the data set's order.
    """
    stages = Stages()
    evaluated = tried(lambda: measure(candidate, split, plan, stages), stages)
    return (evaluated, []) if isinstance(evaluated, Failure) else (evaluated.measurement, kept_lines(evaluated))


def tried(work: Callable[[], Done], stages: Stages) -> Done | Failure:
    """What the work returns, or the Failure that its exception is; a transient one passes through."""
    try:
        return work()
    except Exception as error:
        if is_transient(error):
            raise
        return as_failure(error, stages.current)


def kept_lines(evaluated: Evaluated) -> list[dict[str, Any]]:
    """The hypotheses as they are kept: JSON objects with the segment's id and its scores by metric."""
    return [
        {"id": segment.id, **asdict(hypothesis), "scores": dict(row)}
        for segment, hypothesis, row in zip(evaluated.segments, evaluated.hypotheses, evaluated.rows, strict=True)
    ]
