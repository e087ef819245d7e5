"""The border where exceptions become Failures: one attempt at one candidate, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from search_spaces.candidate import Candidate
from search_spaces.outcome import Outcome
from workers.evaluation import Evaluated, EvaluationPlan, Stages, evaluate
from workers.failures import as_failure, is_transient

Measure = Callable[[Candidate, str, EvaluationPlan, Stages], Evaluated]


def attempt(
    candidate: Candidate, split: str, plan: EvaluationPlan, measure: Measure = evaluate
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Measure a candidate. Transient errors pass through, for another attempt; all others are its Failure.

    Returns the outcome and, with a measurement, the hypotheses as JSON objects in the data set's order.
    """
    stages = Stages()
    try:
        evaluated = measure(candidate, split, plan, stages)
    except Exception as error:
        if is_transient(error):
            raise
        return as_failure(error, stages.current), []
    segments = plan.data[split].segments
    lines = [
        {"id": segment.id, **asdict(hypothesis)}
        for segment, hypothesis in zip(segments, evaluated.hypotheses, strict=True)
    ]
    return evaluated.measurement, lines
