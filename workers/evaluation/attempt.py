"""The border where exceptions become Failures: one attempt at one candidate, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from search_spaces.candidate import Candidate
from search_spaces.errors import UserError
from search_spaces.outcome import Failure, Measurement
from workers.evaluation.evaluate import Evaluated, evaluate
from workers.evaluation.trial_lines import HypothesisLine
from workers.failures.table import MachineError, MachineFault, as_failure, as_machine_fault, whose_fault
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.stages import Stages

Measure = Callable[[Candidate, str, EvaluationPlan, Stages], Evaluated]
Lost = Callable[[str, MachineFault | None], None]
Done = TypeVar("Done")


def attempt(
    candidate: Candidate, split: str, plan: EvaluationPlan, measure: Measure = evaluate
) -> tuple[Measurement | Failure, list[HypothesisLine]]:
    """Measure a candidate in one go. A worker's faults pass through; a candidate's are its Failure.

    Returns the outcome and, with a measurement, the hypotheses as JSON objects in the data set's order. Raises
    MachineError for a fault of the machine's.
    """
    stages = Stages()
    evaluated = result_or_fault(lambda: measure(candidate, split, plan, stages), stages)
    if isinstance(evaluated, MachineFault):
        raise MachineError(evaluated)
    return (evaluated, []) if isinstance(evaluated, Failure) else (evaluated.measurement, kept_lines(evaluated))


def result_or_fault(
    work: Callable[[], Done], stages: Stages, lost: Lost = lambda why, fault: None
) -> Done | Failure | MachineFault:
    """What the work returns, or what its exception is: the candidate's Failure or the machine's fault; a worker's
    passes through, for another attempt.

    lost: is told of a worker's fault, with the machine's that it is where no attempt does better, if it is that.
    """
    try:
        return work()
    except Exception as error:
        rule = whose_fault(error)
        if rule.whose == "worker":
            fault = as_machine_fault(error, stages.current, rule)
            lost(f"{fault.what} (stage {fault.stage}: {fault.message})", fault if rule.then == "machine" else None)
            raise
        if rule.whose == "machine":
            return as_machine_fault(error, stages.current, rule)
        return as_failure(error, stages.current)


def unless_machine(work: Callable[[], Done], stage: str) -> Done | MachineFault:
    """What the work of the search itself returns, or the machine's fault that it met; everything else passes through.

    A worker's fault is the machine's here: nobody else would try again. What is told to the user as theirs stays so.
    """
    try:
        return work()
    except (UserError, MachineError):
        # Said in full already.
        raise
    except Exception as error:
        rule = whose_fault(error)
        if rule.whose not in ("worker", "machine"):
            raise
        return as_machine_fault(error, stage, rule)


def or_else(work: Callable[[], Done], told: Callable[[str], None]) -> Done | None:
    """What the work returns; where it fails it tells, in a line, why, and returns None: what follows it goes on."""
    try:
        return work()
    except Exception as error:
        rule = whose_fault(error)
        told(" ".join(f"{type(error).__name__}: {error}".split()) + (f"; {rule.mend}" if rule.mend else ""))
        return None


def kept_lines(evaluated: Evaluated) -> list[HypothesisLine]:
    """The hypotheses as they are kept, in the data set's order."""
    return [
        {
            "id": segment.id,
            "text": hypothesis.text,
            "tokens": hypothesis.tokens,
            "truncated": hypothesis.truncated,
            "thought": hypothesis.thought,
            "scores": dict(row),
            "failed": list(failed),
        }
        for segment, hypothesis, row, failed in zip(
            evaluated.segments, evaluated.hypotheses, evaluated.rows, evaluated.failed, strict=True
        )
    ]
