"""Which errors are a candidate's own, which are the machine's, and what becomes of each."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, WorkerCrashedError

from search_spaces.candidate import Candidate
from search_spaces.errors import CandidateError, ModelFilesError, StudyError
from search_spaces.outcome import Failure, Score
from tests.examples import BASE, dataset, measurement, segment
from workers.attempt import attempt
from workers.decoding import Decoding, Hypothesis
from workers.evaluation import EmptyOutput, Evaluated, Stages
from workers.failures import as_failure, is_transient
from workers.plan import EvaluationPlan

SEGMENTS = [segment(id="a"), segment(id="b")]
BASELINE = Candidate(BASE)


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


OWN_FAULTS: list[tuple[BaseException, str]] = [
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
    (OutOfMemoryError("CUDA error: out of memory"), "out_of_memory"),
    (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
    (MemoryError(), "out_of_memory"),
    (EmptyOutput("all 10 hypotheses are empty"), "empty_output"),
    (CandidateError("rtn.group_size=64 does not divide"), "unsupported"),
    (StudyError("leaves no room"), "unsupported"),
    (ModelFilesError("no weights"), "unsupported"),
    (NotImplementedError("no kernel for this"), "unsupported"),
    (ValueError("score is nan; a measured number is finite"), "not_finite"),
    (ValueError("shapes do not match"), "error"),
    (RuntimeError("compression left every targeted weight unchanged"), "error"),
    (KeyError("weight"), "error"),
    (FileNotFoundError(errno.ENOENT, "No such file"), "error"),
    (PermissionError(errno.EACCES, "Permission denied"), "error"),
    (OSError(errno.ENOSPC, "No space left on device"), "error"),
    (OSError("the model is not the one the study began with"), "error"),
]
PASSING_FAULTS: list[BaseException] = [
    ActorDiedError(),
    ActorUnavailableError("COMET is out of reach", None),
    NodeDiedError("if the node was preempted"),
    WorkerCrashedError(),
    ConnectionResetError(),
    ConnectionRefusedError(),
    BrokenPipeError(),
    TimeoutError(),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.ETIMEDOUT, "Connection timed out"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]


@pytest.mark.parametrize(("error", "reason"), OWN_FAULTS, ids=lambda value: repr(value)[:50])
def test_a_candidates_own_fault_is_told_by_its_reason_and_not_tried_again(error: BaseException, reason: str) -> None:
    assert not is_transient(error)
    failure = as_failure(error, "load")
    assert (failure.reason, failure.stage) == (reason, "load")
    assert failure.message.startswith(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("error", PASSING_FAULTS, ids=lambda value: repr(value)[:50])
def test_the_machines_faults_are_worth_another_attempt(error: BaseException) -> None:
    assert is_transient(error)


def plan(tmp_path: Path) -> EvaluationPlan:
    return EvaluationPlan({"dev": dataset(SEGMENTS)}, None, ("chrf",), Decoding(), tmp_path)


def raising(error: Exception, stage: str = "translate") -> Callable[..., Evaluated]:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        with stages.stage("load"):
            pass
        with stages.stage(stage):
            raise error

    return measure


@pytest.mark.parametrize(("error", "reason"), OWN_FAULTS, ids=lambda value: repr(value)[:50])
def test_an_attempt_turns_a_candidates_own_fault_into_a_failure(tmp_path: Path, error: Any, reason: str) -> None:
    outcome, hypotheses = attempt(BASELINE, "dev", plan(tmp_path), raising(error))
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.stage) == (reason, "translate")
    assert hypotheses == []


@pytest.mark.parametrize("error", PASSING_FAULTS, ids=lambda value: repr(value)[:50])
def test_an_attempt_lets_the_machines_faults_through(tmp_path: Path, error: Any) -> None:
    with pytest.raises(type(error)) as caught:
        attempt(BASELINE, "dev", plan(tmp_path), raising(error))
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_attempt_never_swallows_the_order_to_stop(tmp_path: Path, error: Any) -> None:
    with pytest.raises(type(error)):
        attempt(BASELINE, "dev", plan(tmp_path), raising(error))


def test_an_unknown_error_says_where_it_was_raised(tmp_path: Path) -> None:
    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), raising(ZeroDivisionError("by zero"), "compress"))
    assert isinstance(outcome, Failure)
    assert outcome.stage == "compress"
    assert outcome.message.startswith("ZeroDivisionError: by zero (at test_failures.py:")


def test_a_user_error_is_passed_on_in_its_own_words(tmp_path: Path) -> None:
    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), raising(StudyError("ask for fewer tokens")))
    assert outcome == Failure("unsupported", "translate", "StudyError: ask for fewer tokens")


def test_an_attempt_keeps_each_hypothesis_with_its_segments_id_and_scores(tmp_path: Path) -> None:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        hypotheses = (Hypothesis("Eins", 3, False), Hypothesis("", 9, True))
        return Evaluated(measurement(), tuple(SEGMENTS), hypotheses, ({"chrf": 60.0}, {"chrf": 0.0}), tmp_path)

    outcome, hypotheses = attempt(BASELINE, "dev", plan(tmp_path), measure)
    assert outcome == measurement()
    assert hypotheses == [
        {"id": "a", "text": "Eins", "tokens": 3, "truncated": False, "scores": {"chrf": 60.0}},
        {"id": "b", "text": "", "tokens": 9, "truncated": True, "scores": {"chrf": 0.0}},
    ]


def test_a_score_that_is_no_number_becomes_a_failure(tmp_path: Path) -> None:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        with stages.stage("score"):
            Score(float("nan"), "signature")
        raise AssertionError("a NaN score was accepted")

    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), measure)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.stage) == ("not_finite", "score")
